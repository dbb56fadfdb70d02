"""The instances of a hypervisor, by libvirt."""
