"""What ``leepjax`` does from a shell: one file for each command."""
