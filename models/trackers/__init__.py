"""Places that show numbers over time, one file each: what a training or a search says is sent there as well."""
