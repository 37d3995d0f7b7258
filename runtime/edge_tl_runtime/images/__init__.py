"""Pictures in files: what a folder holds, what each file is, and how it becomes pixels."""
