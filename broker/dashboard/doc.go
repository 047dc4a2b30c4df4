// Package dashboard shows what a broker does, to people and to Prometheus, over HTTP.
//
//	/                 pages that are open, the broker, its database, pools and workers
//	/pages            all pages that are open
//	/strands/ID       what is known of a strand, and why it does not run
//	/metrics          counts and states, for Prometheus
//	/healthz          200 or 503, with a reason
//	/api/v1/...       the same as JSON, from whoever [Config.API] is
//
// It reads and changes nothing. What it tells comes from the broker's [broker.Snapshot], which costs the database nothing, and from
// the reading calls of package client, by a connection that the broker does not need: each of them ends after a second or two, and
// what all look at is asked for every few seconds at most, however many look. So a database that is away is shown as away, and nobody
// who looks slows down the broker.
//
// Everything in it has come from outside: names, args, errors. It is escaped by html/template, cut where it is long, and the pages may
// load and run nothing but their own style sheet. They work without JavaScript, and load themselves again every five seconds.
//
//	dashboard.go    what it is made of, which way a request goes
//	cached.go       what all look at, asked for now and then
//	login.go        who may look
//	metrics.go      what Prometheus is told
//	health.go       what a load balancer is told
//	page.go         what a page is made of, with templates/
//	overview.go     the first page, and the list of pages that are open
//	strand.go       a strand's page
package dashboard
