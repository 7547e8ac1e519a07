package provision

// Content is what the bundle serves from: per tenant its numbers, groups and programs, per country the products on
// sale. It is complete for each tenant and business unit that it names: what it does not list under them is removed.
// Others are left alone.
type Content struct {
	Tenants    []Tenant
	Businesses []Business
}

// Tenant is whose pushes are sent: what the ENGAGE guide calls a provider, and so does the content file.
type Tenant struct {
	// ID is the tenant of its clients.
	ID string
	// ANumbers is every number it may push from, E.164, at most MaxANumbers.
	ANumbers []string
	Groups   []Group
	Programs []Program
}

// Group is a named part of a tenant's numbers, what aNumberGroupId refers to.
type Group struct {
	ID       string // UUID, lower case
	Name     string
	ANumbers []string // at least one, all of them the tenant's
}

// Program is what a push shows, what programContentUuid refers to.
type Program struct {
	UUID string // lower case
	Name string
	// Complete says that it may be pushed.
	Complete bool
	// Variables are the names that a push's personalization may set.
	Variables []string
	// Content is a JSON object, what the handset shows; at most MaxProgramContent bytes.
	Content string
}

// Business is a country served by the product API.
type Business struct {
	ID string // two capital letters
	// MerchantAccountKey, ProductKey and OfferKey are those of the products that have none of their own. ProductKey
	// and OfferKey may be empty if each product has one.
	MerchantAccountKey, ProductKey, OfferKey string
	Products                                 []Product
}

// Product says what the provider, Bango, and the customer call a product of the catalogue.
type Product struct {
	ReferredType         string // @referredType, DISNEY for instance
	ProductSpecification string // productSpecification.id
	// MerchantAccountKey, ProductKey and OfferKey are empty where the business's are meant.
	MerchantAccountKey, ProductKey, OfferKey string
	// Name is what the customer's mail calls it, Disney+ for instance; empty: the @referredType.
	Name string
}

// Limits of a content file.
const (
	// MaxANumbers is how many numbers a tenant can have: as many as fit one DynamoDB item.
	MaxANumbers = 20_000
	// MaxProgramContent is the size of a program's content as JSON, in bytes.
	MaxProgramContent = 64 << 10
	// MaxContentFile is the size of the file, in bytes.
	MaxContentFile = 64 << 20
)
