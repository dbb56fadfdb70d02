"""What can be polled: this host, the web, a hypervisor. A folder for each, all of them plug-ins."""
