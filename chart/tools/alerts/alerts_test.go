// Package alerts asks the rules of the file named in ALERTS about made-up metrics, with Prometheus's own engine: what each is to
// tell people, and what it is to leave them in peace about.
package alerts

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"
)

// After half an hour of these series, one sample a minute, `alert` has these results (none: it is silent).
var cases = []struct{ alert, about, series, results string }{
	{"QueueWorkerDown", "a worker reports", `queue_worker_build_info{version="1"} 1x30`, ``},
	{"QueueWorkerDown", "the last one has gone", `queue_worker_build_info{version="1"} 1x20 stale`, `{} 1`},

	{"QueueWorkerStalled", "messages wait and nothing happens", `
		queue_worker_pending_messages{queue_name="q",function_name="all-functions",instance="a"} 5x30
		queue_worker_pending_messages{queue_name="q",function_name="all-functions",instance="b"} 5x30
		queue_worker_messages_processed_total{queue_name="q",instance="a"} 7x30`, `{queue_name="q"} 5`},
	{"QueueWorkerStalled", "messages wait and no worker has ever settled one", `
		queue_worker_pending_messages{queue_name="q",instance="a"} 5x30`, `{queue_name="q"} 5`},
	{"QueueWorkerStalled", "nothing waits", `
		queue_worker_pending_messages{queue_name="q",instance="a"} 0x30
		queue_worker_messages_processed_total{queue_name="q",instance="a"} 7x30`, ``},
	{"QueueWorkerStalled", "one worker of two works", `
		queue_worker_pending_messages{queue_name="q",instance="a"} 5x30
		queue_worker_messages_processed_total{queue_name="q",instance="a"} 7x30
		queue_worker_messages_processed_total{queue_name="q",instance="b"} 7+1x30`, ``},
	{"QueueWorkerStalled", "all slots are taken by long calls", `
		queue_worker_pending_messages{queue_name="q",instance="a"} 5x30
		queue_worker_messages_processed_total{queue_name="q",instance="a"} 7x30
		queue_worker_function_invocation_inflight{queue_name="q",function_name="slow",instance="a"} 50x30`, ``},
	{"QueueWorkerStalled", "another queue works", `
		queue_worker_pending_messages{queue_name="q",instance="a"} 5x30
		queue_worker_messages_processed_total{queue_name="other",instance="a"} 7+1x30`, `{queue_name="q"} 5`},

	{"QueueWorkerDeadLetters", "the first dead letter of all", `
		queue_worker_dead_letters{queue_name="q",instance="a"} 0x20 1x10
		queue_worker_dead_letters{queue_name="q",instance="b"} 0x20 1x10`, `{queue_name="q"} 1`},
	{"QueueWorkerDeadLetters", "old ones, and new workers that tell of them", `
		queue_worker_dead_letters{queue_name="q",instance="a"} 9x20 stale
		queue_worker_dead_letters{queue_name="q",instance="b"} _x20 9x10`, ``},
	{"QueueWorkerDeadLetters", "letters that were sent round again", `
		queue_worker_dead_letters{queue_name="q",instance="a"} 9x20 2x10`, ``},

	{"QueueWorkerBacklogOld", "one message waits for too long", `
		queue_worker_oldest_pending_age_seconds{queue_name="q",instance="a"} 601x30
		queue_worker_oldest_pending_age_seconds{queue_name="p",instance="a"} 30x30`, `{queue_name="q"} 601`},

	{"QueueWorkerLeasesLost", "a lease was lost", `
		queue_worker_lease_lost_total{instance="a"} 0x25 2x5`, `{} 2`},
	{"QueueWorkerLeasesLost", "leases were lost long ago", `
		queue_worker_lease_lost_total{instance="a"} 2x30`, ``},

	{"QueueWorkerCallbacksFailing", "half of them fail", `
		queue_worker_callbacks_total{queue_name="q",result="delivered",instance="a"} 0+1x30
		queue_worker_callbacks_total{queue_name="q",result="failed",instance="b"} 0+1x30`, `{queue_name="q"} 0.5`},
	{"QueueWorkerCallbacksFailing", "one in twenty fails", `
		queue_worker_callbacks_total{queue_name="q",result="delivered",instance="a"} 0+19x30
		queue_worker_callbacks_total{queue_name="q",result="failed",instance="a"} 0+1x30`, ``},
	{"QueueWorkerCallbacksFailing", "there are none", `
		queue_worker_callbacks_total{queue_name="q",result="failed",instance="a"} 3x30`, ``},

	{"QueueWorkerUnstorable", "a message fits nowhere", `
		queue_worker_unstorable_messages_total{instance="a"} 0x25 2x5`, `{} 2`},
	{"QueueWorkerUnstorable", "everything fits", `
		queue_worker_unstorable_messages_total{instance="a"} 0x30`, ``},
}

func TestAlerts(t *testing.T) {
	expressions := read(t)
	for _, c := range cases {
		t.Run(c.alert+"/"+c.about, func(t *testing.T) {
			expression, ok := expressions[c.alert]
			if !ok {
				t.Fatalf("there is no such alert")
			}
			script := fmt.Sprintf("load 1m\n%s\n\neval instant at 30m %s\n  %s\n", indent(c.series), expression, c.results)
			promqltest.RunTest(t, script, promqltest.NewTestEngine(t, false, 5*time.Minute, promqltest.DefaultMaxSamplesPerQuery))
		})
	}
	for alert := range expressions {
		if !slices.ContainsFunc(cases, func(c struct{ alert, about, series, results string }) bool {
			return c.alert == alert && c.results != ""
		}) {
			t.Errorf("no case makes %s fire", alert)
		}
	}
}

// read gives the expressions of the rules, each on one line, by the name of the alert.
func read(t *testing.T) map[string]string {
	content, err := os.ReadFile(os.Getenv("ALERTS"))
	if err != nil {
		t.Fatal(err)
	}
	var rules monitoring.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(content, &rules); err != nil {
		t.Fatal(err)
	}
	expressions := map[string]string{}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			expressions[rule.Alert] = strings.Join(strings.Fields(rule.Expr.StrVal), " ")
		}
	}
	return expressions
}

func indent(series string) string {
	lines := strings.Split(strings.TrimSpace(series), "\n")
	for i, line := range lines {
		lines[i] = "  " + strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
