"""Actions: how somebody is told of an alarm. Found by entry point, ours and others' alike."""
