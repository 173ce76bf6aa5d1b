"""Jobs (任务管理): graphs of components, and their runs."""
