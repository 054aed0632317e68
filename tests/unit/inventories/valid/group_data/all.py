"""K3s alone, but where a file is about the platform."""

platform_profile = "none"
