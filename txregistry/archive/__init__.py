"""Image layouts (image-spec 1.1, "Image Layout"): repositories written to a directory or a tar
archive, and read back from one.

May import the model, the interfaces and the storage's readers of files.
"""
