"""Who may do what: users with passwords, rules, tokens, and the gate before every request."""
