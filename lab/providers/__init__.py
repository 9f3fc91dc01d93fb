"""Stand-in Pulumi providers, used only where the real plugins can't be had."""
