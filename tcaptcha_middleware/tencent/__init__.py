"""What Tencent says: its wire, its codes, its scripts. No I/O."""
