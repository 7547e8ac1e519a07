// Command product-mail-event is the function that works through the queue of what SES tells of mails.
package main

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/shared/awsconfig"
	"carillon/shared/environment"
	"carillon/shared/lambdafunction"
	"carillon/shared/product"
	"carillon/shared/product/mail"
)

func main() { lambdafunction.Main(setUp) }

func setUp() (any, error) {
	var env environment.Variables
	mailsTable := env.String("MAILS_TABLE")
	productsTable := env.String("PRODUCTS_TABLE")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return nil, err
	}
	recorder := mail.NewRecorder(product.NewMailStore(dynamodb.NewFromConfig(config), mailsTable, productsTable), time.Now)
	return recorder.Handle, nil
}
