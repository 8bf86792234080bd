from lmtp_twisted.backends.plugin import BackendPlugin

shelf_backend = BackendPlugin(
    backendType="shelf",
    description="Writes each message to a file of a directory.",
    maker="lmtp_shelf.shelf.from_description",
    argumentHelp="DIRECTORY",
    options={"suffix": "how the files' names end (default .eml)"},
)
