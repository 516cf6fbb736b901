// The bare loop in Go: pull, decode, POST, acknowledge with nats.go and net/http, not tuned.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

type invocation struct {
	Header   http.Header
	Body     []byte
	Function string
}

type loop struct {
	client  *http.Client
	gateway string
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	concurrency, err := strconv.Atoi(os.Getenv("BENCH_CONCURRENCY"))
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, concurrency
	bare := &loop{client: &http.Client{Transport: transport}, gateway: os.Getenv("BENCH_GATEWAY_URL")}

	connection, err := nats.Connect(os.Getenv("BENCH_NATS_URL"))
	if err != nil {
		return err
	}
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(context.Background(), os.Getenv("BENCH_STREAM"), os.Getenv("BENCH_DURABLE"))
	if err != nil {
		return err
	}
	// On a busy machine nats.go may consume all of a request before it has noted that the request was sent, and
	// then asks for nothing more until it misses the heartbeats of that one: a second, and not its usual half minute.
	messages, err := consumer.Messages(
		jetstream.PullMaxMessages(concurrency),
		jetstream.PullExpiry(2*time.Second),
		jetstream.PullHeartbeat(500*time.Millisecond),
		jetstream.WithMessagesErrOnMissingHeartbeat(false),
	)
	if err != nil {
		return err
	}
	permits := make(chan struct{}, concurrency)
	for {
		message, err := messages.Next()
		if err != nil {
			return err
		}
		permits <- struct{}{}
		go func() {
			defer func() { <-permits }()
			if err := bare.carry(message); err != nil {
				log.Fatal(err)
			}
		}()
	}
}

func (bare *loop) carry(message jetstream.Msg) error {
	var call invocation
	if err := json.Unmarshal(message.Data(), &call); err != nil {
		return err
	}
	url := bare.gateway + "/function/" + call.Function
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(call.Body))
	if err != nil {
		return err
	}
	request.Header = call.Header
	response, err := bare.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the gateway answers %s", response.Status)
	}
	return message.Ack()
}
