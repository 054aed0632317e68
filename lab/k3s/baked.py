"""What the build writes anew: the version that the executable claims."""

VERSION = "v0.0.0+checkout"
