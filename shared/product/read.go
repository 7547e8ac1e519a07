package product

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"carillon/shared/clientauth"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

// readJSON is a product as the reads show it: as a create does, with what became of the activation mail.
type readJSON struct {
	productJSON
	ProductCharacteristic []characteristicOfProduct `json:"productCharacteristic"`
}

// characteristicOfProduct is TMF637's Characteristic.
type characteristicOfProduct struct {
	Name      string `json:"name"`
	ValueType string `json:"valueType"`
	Value     string `json:"value"`
}

// The characteristics of a product. A product whose mail nothing is known of has none.
const (
	activationMail       = "activationMail"       // what became of the latest mail: a state of package product/mail
	activationMailDate   = "activationMailDate"   // since when, RFC 3339 in UTC
	activationMailReason = "activationMailReason" // why, if there is a reason
)

// The attributes of an item that a read shows. Nothing else of it is read: what a link is renewed with is no reader's.
const shownAttributes = "id, #status, productSpecificationId, referredType, billingAccountId, billingAccountBaseType, billingAccountType, " +
	"contact, mailState, mailReason, mailAt"

// productOf returns the product that an item is, under the URL of its collection.
func productOf(item dynamo.Item, collection string) (*readJSON, error) {
	id := dynamo.GetString(item, "id")
	p := &readJSON{productJSON: productJSON{
		ID:                   id,
		Href:                 collection + "/" + id,
		Status:               dynamo.GetString(item, "status"),
		ProductSpecification: referenceJSON{ID: dynamo.GetString(item, "productSpecificationId")},
		BaseType:             productBaseType,
		Type:                 productType,
		ReferredType:         dynamo.GetString(item, "referredType"),
		BillingAccount: accountJSON{
			ID:       dynamo.GetString(item, "billingAccountId"),
			BaseType: dynamo.GetString(item, "billingAccountBaseType"),
			Type:     dynamo.GetString(item, "billingAccountType"),
		},
	}}
	if err := json.Unmarshal([]byte(dynamo.GetString(item, "contact")), &p.BillingAccount.Contact); err != nil {
		return nil, err
	}
	state := dynamo.GetString(item, "mailState")
	if state == "" {
		return p, nil
	}
	p.add(activationMail, "string", state)
	if at := dynamo.GetTime(item, "mailAt"); !at.IsZero() {
		p.add(activationMailDate, "dateTime", at.UTC().Format(time.RFC3339Nano))
	}
	if reason := dynamo.GetString(item, "mailReason"); reason != "" {
		p.add(activationMailReason, "string", reason)
	}
	return p, nil
}

func (p *readJSON) add(name, valueType, value string) {
	p.ProductCharacteristic = append(p.ProductCharacteristic, characteristicOfProduct{Name: name, ValueType: valueType, Value: value})
}

// show returns the product as JSON, with the first-level members that are asked for.
func (p *readJSON) show(fields fieldSet) (jsontext.Value, error) {
	whole, err := json.Marshal(p)
	if err != nil || fields == nil {
		return whole, err
	}
	from := jsontext.NewDecoder(bytes.NewReader(whole))
	var part bytes.Buffer
	to := jsontext.NewEncoder(&part)
	if err := copyToken(to, from); err != nil { // {
		return nil, err
	}
	for from.PeekKind() == '"' {
		name, err := from.ReadToken()
		if err != nil {
			return nil, err
		}
		member := name.String() // before the value is read, which ends the token's life
		value, err := from.ReadValue()
		if err != nil {
			return nil, err
		}
		if !fields.has(member) {
			continue
		}
		if err := to.WriteToken(jsontext.String(member)); err != nil {
			return nil, err
		}
		if err := to.WriteValue(value); err != nil {
			return nil, err
		}
	}
	if err := copyToken(to, from); err != nil { // }
		return nil, err
	}
	return bytes.TrimSpace(part.Bytes()), nil // the encoder ends a text with a line break
}

func copyToken(to *jsontext.Encoder, from *jsontext.Decoder) error {
	token, err := from.ReadToken()
	if err != nil {
		return err
	}
	return to.WriteToken(token)
}

// admit returns who reads, and whether the businessId is served. It returns a fault Unauthenticated or Forbidden, as a
// create does, or the error of Secrets Manager or DynamoDB.
func admit(ctx context.Context, clients *clientauth.Authenticator, content *ContentStore, r *httpapi.Request) (client clientauth.Client, served bool, err error) {
	if client, err = authenticate(ctx, clients, r); err != nil {
		return clientauth.Client{}, false, err
	}
	businessID := r.PathParameter("businessId")
	_, err = content.Business(ctx, businessID)
	served = err == nil
	if err != nil && !fault.Is(err, fault.NotFound) {
		return clientauth.Client{}, false, err
	}
	if !mayAsk(client, businessID, served) {
		return clientauth.Client{}, false, fault.New(fault.Forbidden, "")
	}
	return client, served, nil
}

// readFaults adds what is wrong with a read's path, headers and the form of its query, and returns the query's parameters.
// X-Correlation-ID is optional here; one that no answer could echo is a fault.
func readFaults(r *httpapi.Request, served bool, faults *fault.Violations) url.Values {
	businessID := r.PathParameter("businessId")
	switch {
	case !isCountryCode(businessID):
		faults.Add(fault.BadValue, "businessId must be a country code of two capital letters")
	case !served:
		faults.Add(fault.BadValue, "businessId %s is not a country that is served", businessID)
	}
	if strings.TrimSpace(r.Header("x-correlation-id")) != "" && correlationID(r) == "" {
		faults.Add(fault.BadValue, "X-Correlation-ID must be at most %d printable ASCII characters", maxCorrelationID)
	}
	parameters, err := r.Query()
	if err != nil {
		faults.Add(fault.Malformed, "the query is not URL-encoded")
	}
	return parameters
}

// collectionURL is the URL of a business unit's products, as the caller sees it.
func collectionURL(r *httpapi.Request) string {
	return r.BaseURL() + "/dxp-ux/v1/" + r.PathParameter("businessId") + "/product"
}

// readAnswer is an answer with products. It must not be kept on its way: a cache knows nothing of client_id.
func readAnswer(r *httpapi.Request, body any) *httpapi.Response {
	return withCorrelation(r, httpapi.JSON(http.StatusOK, body).With("cache-control", "no-store"))
}

// isProductID reports whether a text can be a product's id: a key that DynamoDB takes.
func isProductID(text string) bool {
	_, err := uuid.Parse(text)
	return err == nil && len(text) == len(uuid.UUID{}.String())
}

// find returns a product's item, as far as a read shows it. It returns a fault NotFound, also for another owner's product,
// or DynamoDB's error.
func (s *Store) find(ctx context.Context, tenant, businessID, id string) (dynamo.Item, error) {
	if !isProductID(id) {
		return nil, fault.New(fault.NotFound, "")
	}
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:                aws.String(s.table),
		Key:                      productKey(tenant, businessID, id),
		ProjectionExpression:     aws.String(shownAttributes),
		ExpressionAttributeNames: map[string]string{"#status": "status"},
		ConsistentRead:           aws.Bool(true), // who was answered with a Location may follow it at once
	})
	if err != nil {
		return nil, err
	}
	if out.Item == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	return out.Item, nil
}

// collect adds an owner's products to a page, in the order of their ids. It reads all of them, for the page counts those
// that match, but has DynamoDB send no more than the page needs. It returns DynamoDB's error, or the page's.
func (s *Store) collect(ctx context.Context, tenant, businessID string, p *page) error {
	read := &dynamodb.QueryInput{
		TableName:                 aws.String(s.table),
		KeyConditionExpression:    aws.String("#owner = :owner"),
		ProjectionExpression:      aws.String(shownAttributes),
		ExpressionAttributeNames:  map[string]string{"#owner": "owner", "#status": "status"},
		ExpressionAttributeValues: dynamo.Item{":owner": productKey(tenant, businessID, "")["owner"]},
		ConsistentRead:            aws.Bool(true),
	}
	count := *read
	count.Select, count.ProjectionExpression = types.SelectCount, nil
	count.ExpressionAttributeNames = map[string]string{"#owner": "owner"}
	narrow(read, p.query.filters)
	for {
		input, most := read, p.missing()
		if p.onlyCounts() {
			input, most = &count, p.skipped()
		}
		input.Limit = nil
		if most > 0 {
			input.Limit = aws.Int32(int32(most)) //nolint:gosec // an offset or a page
		}
		out, err := s.client.Query(ctx, input)
		if err != nil {
			return err
		}
		if input == &count {
			p.total += int(out.Count)
		}
		for _, item := range out.Items {
			if err := p.add(item); err != nil {
				return err
			}
		}
		if len(out.LastEvaluatedKey) == 0 {
			return nil
		}
		read.ExclusiveStartKey, count.ExclusiveStartKey = out.LastEvaluatedKey, out.LastEvaluatedKey
	}
}

// maxOperands is how many texts of one filter DynamoDB is asked to look for; it takes 100.
const maxOperands = 50

// narrow has DynamoDB leave out items that a filter does not match. It is an economy alone: it may leave some of them in.
func narrow(input *dynamodb.QueryInput, filters []filter) {
	var conditions []string
	for i, f := range filters {
		if f.path == "id" && len(f.texts) == 1 {
			for id := range f.texts {
				if isProductID(id) {
					*input.KeyConditionExpression += " AND id = :id"
					input.ExpressionAttributeValues[":id"] = dynamo.String(id)
				}
			}
		}
		column := leaves[f.path].column
		if column == "" || len(f.texts) > maxOperands {
			continue
		}
		var operands []string
		for text := range f.texts {
			operand := ":f" + strconv.Itoa(i) + "x" + strconv.Itoa(len(operands))
			input.ExpressionAttributeValues[operand] = dynamo.String(text)
			operands = append(operands, operand)
		}
		name := "#f" + strconv.Itoa(i)
		input.ExpressionAttributeNames[name] = column
		conditions = append(conditions, name+" IN ("+strings.Join(operands, ", ")+")")
	}
	if len(conditions) > 0 {
		input.FilterExpression = aws.String(strings.Join(conditions, " AND "))
	}
}
