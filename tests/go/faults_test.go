// Faults of the network between a Go program and its brokers, in poll mode: every accepted record
// has one outcome, success means it is in the log once and in order, and a failure says truthfully
// whether it may be there.
//
// tests/go.sh builds and runs this; FAULT_PROXY names the proxy's program.
package faults

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkaproducer.test/go/internal/faultproxy"
	"kafkaproducer.test/go/internal/kafka"
)

const (
	topic = "t"
	// Bounds every wait; none of them is a measurement.
	longMs   = 60_000
	patience = longMs * time.Millisecond
)

// A cluster, the proxy before it (broker n is route n), and a producer that goes through it.
type world struct {
	*testing.T
	cluster  *kafka.Cluster
	proxy    *faultproxy.Proxy
	producer *kafka.Producer
	brokers  int
	// The tags of each partition in the order in which they were sent.
	sent [][]uint64
	// The next record's tag, and how long its value is.
	tag  uint64
	size int
}

func newWorld(t *testing.T, brokers, partitions int, settings map[string]string) *world {
	t.Helper()
	w := &world{T: t, brokers: brokers, sent: make([][]uint64, partitions), size: 100}
	var err error
	w.cluster, err = kafka.NewCluster(brokers, topic, partitions)
	w.must(err)
	t.Cleanup(w.cluster.Free)
	w.proxy, err = faultproxy.Start(os.Getenv("FAULT_PROXY"))
	w.must(err)
	t.Cleanup(func() {
		if err := w.proxy.Stop(); err != nil {
			t.Errorf("the proxy: %v", err)
		}
	})
	var servers []string
	for i, address := range w.cluster.Addresses() {
		port, err := w.proxy.Route(address)
		w.must(err)
		w.must(w.cluster.SetAdvertised(i+1, port))
		servers = append(servers, fmt.Sprintf("127.0.0.1:%d", port))
	}
	all := map[string]string{
		"bootstrap.servers":        strings.Join(servers, ","),
		"linger.ms":                "0",
		"retry.backoff.ms":         "5",
		"reconnect.backoff.ms":     "5",
		"reconnect.backoff.max.ms": "20",
	}
	for key, value := range settings {
		all[key] = value
	}
	w.producer, err = kafka.NewProducer(topic, all)
	w.must(err)
	t.Cleanup(func() {
		if err := w.producer.Close(longMs); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) command(format string, arguments ...any) {
	w.Helper()
	_, err := w.proxy.Command(format, arguments...)
	w.must(err)
}

func (w *world) connections(route int) map[int]bool {
	w.Helper()
	open, err := w.proxy.Connections(route)
	w.must(err)
	return open
}

// The value of a record: no two are alike.
func valueOf(tag uint64, size int) []byte {
	value := bytes.Repeat([]byte{byte(tag)}, size)
	binary.BigEndian.PutUint64(value, tag)
	return value
}

// Sends a record to each partition.
func (w *world) send() {
	w.Helper()
	for partition := range w.sent {
		w.must(w.producer.Send(partition, valueOf(w.tag, w.size), w.tag))
		w.sent[partition] = append(w.sent[partition], w.tag)
		w.tag++
	}
}

func (w *world) flush() {
	w.Helper()
	w.must(w.producer.Flush(longMs))
}

func (w *world) eventually(what string, isSo func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !isSo(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// Waits until all that was sent has an outcome, each record one.
func (w *world) outcomes() map[uint64]kafka.Outcome {
	w.Helper()
	w.flush()
	var outcomes map[uint64]kafka.Outcome
	w.eventually("everything is polled", func() bool {
		var twice []uint64
		outcomes, twice = w.producer.Outcomes()
		if len(twice) > 0 {
			w.Fatalf("reported more than once: %v", twice)
		}
		return uint64(len(outcomes)) >= w.tag
	})
	for partition, tags := range w.sent {
		for _, tag := range tags {
			if outcome, ok := outcomes[tag]; !ok || outcome.Partition != partition {
				w.Fatalf("%d, sent to %d: %+v", tag, partition, outcome)
			}
		}
	}
	pending, err := w.producer.Pending()
	w.must(err)
	if pending != 0 || uint64(len(outcomes)) != w.tag {
		w.Fatalf("%d outcomes of %d records, %d pending", len(outcomes), w.tag, pending)
	}
	return outcomes
}

// Every record's outcome is true: what succeeded is in its partition's log, what failed and was not
// written is not, and nothing is there twice or out of order. Gives how many failed.
func (w *world) assertTruth(outcomes map[uint64]kafka.Outcome) (failed int) {
	w.Helper()
	for partition, tags := range w.sent {
		log := w.cluster.Log(partition)
		for _, tag := range tags {
			outcome := outcomes[tag]
			written := len(log) > 0 && bytes.Equal(log[0], valueOf(tag, len(log[0])))
			if written {
				log = log[1:]
			}
			if outcome.Status != kafka.OK {
				failed++
			}
			maybe := outcome.Flags&kafka.MaybePersisted != 0
			if outcome.Status == kafka.OK && !written {
				w.Fatalf("%d/%d succeeded and is not where it belongs in the log", partition, tag)
			}
			if outcome.Status != kafka.OK && !maybe && written {
				w.Fatalf("%d/%d is said not to be written, and is: %+v", partition, tag, outcome)
			}
		}
		if len(log) > 0 {
			w.Fatalf("partition %d: %d records too many, or out of order", partition, len(log))
		}
	}
	return failed
}

// All was written, once and in order.
func (w *world) assertDelivered() {
	w.Helper()
	outcomes := w.outcomes()
	if failed := w.assertTruth(outcomes); failed > 0 {
		w.Fatalf("%d of %d records failed", failed, w.tag)
	}
}

// Runs what must make the producer leave the route's connection for another one.
func (w *world) assertCut(route int, cut func()) {
	w.Helper()
	before := w.connections(route)
	cut()
	after := w.connections(route)
	for id := range after {
		if !before[id] {
			return
		}
	}
	w.Fatalf("no connection was cut: %v before, %v after", before, after)
}

func TestAStalledBrokerThatHealsLosesNothing(t *testing.T) {
	// Longer than the stall, and much shorter: then it is given up and tried again and again.
	for _, timeout := range []string{"30000", "200"} {
		t.Run(timeout, func(t *testing.T) {
			w := newWorld(t, 2, 4, map[string]string{"request.timeout.ms": timeout})
			w.send()
			w.flush()
			before := w.connections(1)
			first := w.tag
			w.command("stall 1 both on")
			for i := 0; i < 100; i++ {
				w.send()
			}
			w.eventually("the other broker goes on", func() bool {
				outcomes, _ := w.producer.Outcomes()
				return uint64(len(outcomes)) >= first+(w.tag-first)/2
			})
			if timeout == "200" {
				w.eventually("the stalled connection is given up", func() bool {
					for id := range w.connections(1) {
						if !before[id] {
							return true
						}
					}
					return false
				})
			}
			outcomes, _ := w.producer.Outcomes()
			for tag, outcome := range outcomes {
				if tag >= first && outcome.Partition%2 == 0 {
					t.Fatalf("%d of the stalled broker: %+v", tag, outcome)
				}
			}
			w.command("heal 1")
			w.assertDelivered()
		})
	}
}

func TestAResetInMidRequestIsDeliveredOnce(t *testing.T) {
	w := newWorld(t, 1, 1, nil)
	w.size = 20_000
	w.send()
	w.flush()
	// The producer asks for metadata when it pleases: where the reset hits that, there is another.
	sendOverReset := func(direction string, k int, requests uint64) {
		var got uint64
		w.eventually(fmt.Sprintf("%d whole requests", requests), func() bool {
			w.assertCut(1, func() {
				written := w.cluster.Requests(1, kafka.Produce)
				w.command("cut 1 %s %d reset once", direction, k)
				w.send()
				w.flush()
				got = w.cluster.Requests(1, kafka.Produce) - written
				w.command("heal 1")
			})
			if got < 1 || got > requests {
				t.Fatalf("%d whole requests, with a reset after byte %d %s", got, k, direction)
			}
			return got == requests
		})
	}
	// The broker gets a part of the request: nothing is written the first time.
	for _, k := range []int{1, 4, 100, 5_000, 19_999} {
		sendOverReset("up", k, 1)
	}
	// It gets all of it and its answer is lost: the second time it is recognised.
	for _, k := range []int{0, 1, 4, 20} {
		sendOverReset("down", k, 2)
	}
	w.assertDelivered()
}

func TestADropAfterAnyByteLosesNothing(t *testing.T) {
	w := newWorld(t, 1, 2, map[string]string{"request.timeout.ms": "400"})
	w.send()
	w.flush()
	for _, how := range []string{"close", "swallow"} {
		for _, direction := range []string{"up", "down"} {
			// A request is longer than 200 bytes, an answer than 30.
			longest := map[string]int{"up": 200, "down": 30}[direction]
			for k := 0; k < longest; k += 1 + k/2 {
				w.assertCut(1, func() {
					w.command("cut 1 %s %d %s once", direction, k, how)
					w.send()
					w.flush()
					w.command("heal 1")
				})
			}
		}
	}
	w.assertDelivered()
}

func TestADeliveryTimeoutTellsTheTruth(t *testing.T) {
	w := newWorld(t, 1, 3, map[string]string{
		"request.timeout.ms": "400", "delivery.timeout.ms": "1000",
	})
	// Sends a record to each partition, whatever comes of it must be true; whether it is what is
	// wanted of all of them.
	try := func(wanted func(kafka.Outcome) bool) bool {
		t.Helper()
		first := w.tag
		w.send()
		outcomes := w.outcomes()
		w.assertTruth(outcomes)
		all := true
		for tag := first; tag < w.tag; tag++ {
			outcome := outcomes[tag]
			maybe := outcome.Flags&kafka.MaybePersisted != 0
			if outcome.Status != kafka.OK && (outcome.Status != kafka.DeliveryTimedOut ||
				maybe != (outcome.Attempts > 0) || outcome.Message == "") {
				t.Fatalf("%d: %+v", tag, outcome)
			}
			all = all && wanted(outcome)
		}
		return all
	}
	// On a busy machine a record's second may be over before anything else has come of it: what is
	// to be shown is tried again then.
	deliver := func() {
		t.Helper()
		w.eventually("records are delivered", func() bool {
			return try(func(outcome kafka.Outcome) bool { return outcome.Status == kafka.OK })
		})
	}
	// Requests arrive, and no answer comes: the records are in the log, and the producer can't know.
	w.eventually("records that may be written", func() bool {
		w.command("heal 1")
		deliver()
		w.command("cut 1 down 0 swallow")
		return try(func(outcome kafka.Outcome) bool {
			return outcome.Status != kafka.OK && outcome.Attempts > 0
		})
	})
	w.assertWritten()
	// No broker is there: nothing can have been written.
	w.command("backend 1 127.0.0.1:1")
	w.command("heal 1")
	w.command("close 1")
	w.eventually("the connections are gone", func() bool { return len(w.connections(1)) == 0 })
	w.eventually("records that are not written", func() bool {
		return try(func(outcome kafka.Outcome) bool {
			return outcome.Status != kafka.OK && outcome.Attempts == 0 &&
				outcome.Stage == kafka.NotConnected
		})
	})
	// And it goes on when there is one again.
	w.command("backend 1 %s", w.cluster.Addresses()[0])
	deliver()
}

// What may be written has arrived, or does: requests were sent as a whole.
func (w *world) assertWritten() {
	w.Helper()
	outcomes := w.outcomes()
	for partition, tags := range w.sent {
		written := 0
		for _, tag := range tags {
			if outcomes[tag].Status == kafka.OK || outcomes[tag].Flags&kafka.MaybePersisted != 0 {
				written++
			}
		}
		w.eventually("all of it is in the log", func() bool {
			return len(w.cluster.Log(partition)) == written
		})
	}
}

func TestEveryFaultUnderManySenders(t *testing.T) {
	// Long enough for a busy machine to move a request byte by byte: what is tried again would not
	// be through either.
	w := newWorld(t, 2, 4, map[string]string{"request.timeout.ms": "20000"})
	faults := []string{
		"split all both 1",
		"reset all",
		"latency all both 20",
		"close all",
		"bandwidth all up 2000000",
		"cut all up 3000 reset once",
		"cut all down 30 close once",
		"half-close all down",
		"half-close all up",
		"stall all up on",
	}
	const perRound = 200
	w.sendConcurrently(perRound)
	w.flush()
	for _, fault := range faults {
		w.command(fault)
		if strings.HasPrefix(fault, "split") {
			w.sendConcurrently(perRound / 10)
		} else {
			w.sendConcurrently(perRound)
		}
		if strings.HasPrefix(fault, "stall") {
			w.command("heal all")
		}
		w.flush()
		w.command("heal all")
	}
	w.assertDelivered()
}

// A goroutine for each partition sends `count` records.
func (w *world) sendConcurrently(count int) {
	w.Helper()
	var senders sync.WaitGroup
	failed := make([]error, len(w.sent))
	for partition := range w.sent {
		first := w.tag
		w.tag += uint64(count)
		for tag := first; tag < w.tag; tag++ {
			w.sent[partition] = append(w.sent[partition], tag)
		}
		senders.Add(1)
		go func(partition int, first uint64) {
			defer senders.Done()
			for tag := first; tag < first+uint64(count) && failed[partition] == nil; tag++ {
				failed[partition] = w.producer.Send(partition, valueOf(tag, w.size), tag)
			}
		}(partition, first)
	}
	senders.Wait()
	for _, err := range failed {
		w.must(err)
	}
}
