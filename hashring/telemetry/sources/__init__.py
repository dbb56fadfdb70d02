"""What can be polled: this host, the web, a hypervisor. A folder for each, all of them plug-ins.

Each folder has the one library that knows its kind: ``host`` psutil, ``web`` the HTTP client and
prometheus-client's parser, ``libvirt`` libvirt's binding. No folder imports another.
"""
