"""Downloads (published: 文件上传下载操作接口): only what somebody uploaded to this service."""
