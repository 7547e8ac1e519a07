// Command product-mail-event is the function that works through the queue of what SES tells of mails.
package main

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/shared/lambdafunction"
	"carillon/shared/product"
	"carillon/shared/product/mail"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	env, config := s.Env, s.Config
	mailsTable := env.String("MAILS_TABLE")
	productsTable := env.String("PRODUCTS_TABLE")
	recorder := mail.NewRecorder(product.NewMailStore(dynamodb.NewFromConfig(config), mailsTable, productsTable), time.Now)
	return recorder.Handle
}
