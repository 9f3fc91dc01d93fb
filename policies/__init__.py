"""What must hold for a fleet, whoever edits the program: rules for `pulumi preview --policy-pack policies`."""
