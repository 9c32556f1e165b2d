"""This machine: CPU, load, memory, disks, network, temperatures."""
