"""The paper's mathematics in closed form: its Tables 1 and 2, its Figures 1 to 3."""
