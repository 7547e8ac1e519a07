package engage

// Limits of a page of a push's destinations.
const (
	DefaultPage = 500
	MaxPage     = 1000
)

// Page is a part of what became of a push.
type Page struct {
	Meta *Meta
	Rows []Row  // in the order sent
	Next string // what to ask for the page behind it with; "" if this is the last
}

// Row is what became of one destination. Its State is never empty.
type Row struct {
	BNumber          string
	CustomTrackingID string // "" if none was sent
	Result
}
