package store

import (
	"context"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/product"
)

// List gives a page an owner's products, in the order of their ids. It reads all of them, for the page counts those
// that match, but has DynamoDB send no more than the page needs, and leave out some of those that the filters do not
// match. It returns DynamoDB's error; the page's; or an error if an item is no product's.
func (s *Products) List(
	ctx context.Context, tenant, businessID string, filters []product.Filter, page product.Page,
) error {
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
	narrow(read, filters)
	for {
		number, most := page.Next()
		input := read
		if number {
			input = &count
		}
		input.Limit = nil
		if most > 0 {
			input.Limit = aws.Int32(int32(most)) //nolint:gosec // an offset or a page
		}
		out, err := s.client.Query(ctx, input)
		if err != nil {
			return err
		}
		if number {
			page.Skip(int(out.Count))
		}
		if err := addAll(page, out.Items); err != nil {
			return err
		}
		if len(out.LastEvaluatedKey) == 0 {
			return nil
		}
		read.ExclusiveStartKey, count.ExclusiveStartKey = out.LastEvaluatedKey, out.LastEvaluatedKey
	}
}

func addAll(page product.Page, items []dynamo.Item) error {
	for _, item := range items {
		shown, err := shownFromItem(item)
		if err != nil {
			return err
		}
		if err := page.Add(shown); err != nil {
			return err
		}
	}
	return nil
}

// maxOperands is how many texts of one filter DynamoDB is asked to look for; it takes 100.
const maxOperands = 50

// columns are the attributes of an item that hold, as they are, the text at a filter's path.
var columns = map[string]string{
	"status":                   "status",
	"productSpecification.id":  "productSpecificationId",
	"@referredType":            "referredType",
	"billingAccount.id":        "billingAccountId",
	"billingAccount.@baseType": "billingAccountBaseType",
	"billingAccount.@type":     "billingAccountType",
}

// narrow has DynamoDB leave out items that a filter does not match. It is an economy alone: it may leave some of them
// in.
func narrow(input *dynamodb.QueryInput, filters []product.Filter) {
	var conditions []string
	for i, f := range filters {
		if f.Path == "id" && len(f.Texts) == 1 {
			for id := range f.Texts {
				if isProductID(id) {
					*input.KeyConditionExpression += " AND id = :id"
					input.ExpressionAttributeValues[":id"] = dynamo.String(id)
				}
			}
		}
		column := columns[f.Path]
		if column == "" || len(f.Texts) > maxOperands {
			continue
		}
		var operands []string
		for text := range f.Texts {
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
