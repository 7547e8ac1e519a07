package product

// Filter asks for products that have one of some texts at a dotted path, billingAccount.id for instance.
type Filter struct {
	Path  string
	Texts map[string]bool
}

// Page takes an owner's products in the order of their ids, whether they match or not, and picks those that it shows.
type Page interface {
	// Next says what is wanted of the products that come now: how many they are, or they themselves. After most of
	// them, unless it is 0, it may want something else.
	Next() (number bool, most int)
	// Skip takes the number of the next products instead of them.
	Skip(products int)
	// Add takes the next product.
	Add(p Shown) error
}
