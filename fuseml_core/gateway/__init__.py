"""The data process: everything that moves bytes. It needs neither the database nor the control process."""
