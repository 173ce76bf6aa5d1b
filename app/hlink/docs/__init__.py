"""Help (wire: 辅助文档, ``/doc``): pages of Markdown, in English and Chinese.

The pages are ``schemas/hlink/docs/<language>/<key>.md``. What they say of types, reserved words, forms and roles is
generated from the data that the service itself goes by, where a page has a marker such as ``{{reserved words}}``.
"""
