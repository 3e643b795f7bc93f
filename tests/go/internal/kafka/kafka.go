// Package kafka is as much of the C API as these tests use, in the shape that a binding would give
// it: one call per record with its fields passed one by one, deliveries polled by a goroutine,
// tags as integers. C keeps no Go pointer, and no C pointer leaves this package.
package kafka

/*
#include <kafka_producer.h>
#include <kafka_producer_mock.h>
#include <stdlib.h>

// A Go pointer may be an argument, and not inside of one.
static producer_status_t send_record(producer_t *producer, const char *topic, int32_t partition,
                                     const void *value, size_t len, uint64_t tag,
                                     producer_error_t *error) {
  producer_record_t record = {
      .topic = producer_str(topic),
      .value = {(const uint8_t *)value, len},
      .partition = partition,
      .flags = PRODUCER_RECORD_HAS_PARTITION,
      .tag = tag,
  };
  return producer_send(producer, &record, error);
}
*/
import "C"

import (
	"fmt"
	"strings"
	"sync"
	"unsafe"
)

// Statuses, flags and stages that the tests name.
const (
	OK               = int32(C.PRODUCER_OK)
	DeliveryTimedOut = int32(C.PRODUCER_ERR_DELIVERY_TIMED_OUT)
	MaybePersisted   = uint32(C.PRODUCER_MAYBE_PERSISTED)
	NotConnected     = int32(C.PRODUCER_STAGE_NOT_CONNECTED)
)

// Produce is the number of that API.
const Produce = 0

// Error is a call that failed.
type Error struct {
	Status  int32
	Flags   uint32
	Message string
}

func (e *Error) Error() string {
	return C.GoString(C.producer_status_name(C.int32_t(e.Status))) + ": " + e.Message
}

func check(status C.producer_status_t, err *C.producer_error_t) error {
	if status == C.PRODUCER_OK {
		return nil
	}
	message := "(no message)"
	if err != nil {
		message = C.GoString(&err.message[0])
	} else {
		message = C.GoString(C.producer_status_message(C.int32_t(status)))
	}
	failed := &Error{Status: int32(status), Message: message}
	if err != nil {
		failed.Flags = uint32(err.flags)
	}
	return failed
}

// Cluster is the cluster inside the process.
type Cluster struct {
	handle *C.producer_mock_cluster_t
	topic  *C.char
}

// NewCluster starts brokers 1 to `brokers` with one topic, whose partition p is led by broker
// 1 + p % brokers.
func NewCluster(brokers int, topic string, partitions int) (*Cluster, error) {
	cluster := &Cluster{topic: C.CString(topic)}
	var err C.producer_error_t
	status := C.producer_mock_cluster_new(C.int32_t(brokers), &cluster.handle, &err)
	if err := check(status, &err); err != nil {
		cluster.Free()
		return nil, err
	}
	name := C.producer_str(cluster.topic)
	status = C.producer_mock_cluster_create_topic(cluster.handle, name, C.int32_t(partitions))
	for p := 0; p < partitions && status == C.PRODUCER_OK; p++ {
		leader := C.int32_t(1 + p%brokers)
		status = C.producer_mock_cluster_set_leader(cluster.handle, name, C.int32_t(p), leader)
	}
	if err := check(status, nil); err != nil {
		cluster.Free()
		return nil, err
	}
	return cluster, nil
}

// Free ends the cluster.
func (c *Cluster) Free() {
	C.producer_mock_cluster_free(c.handle)
	C.free(unsafe.Pointer(c.topic))
}

// Addresses gives where the brokers listen, in the order of their ids.
func (c *Cluster) Addresses() []string {
	return strings.Split(C.GoString(C.producer_mock_cluster_bootstrap_servers(c.handle)), ",")
}

// SetAdvertised has a broker send its clients to another port.
func (c *Cluster) SetAdvertised(node int, port uint16) error {
	host := C.CString("127.0.0.1")
	defer C.free(unsafe.Pointer(host))
	return check(C.producer_mock_cluster_set_advertised(
		c.handle, C.int32_t(node), host, C.uint16_t(port)), nil)
}

// Requests counts the requests of an API that came to a broker as a whole.
func (c *Cluster) Requests(node, api int) uint64 {
	return uint64(C.producer_mock_cluster_request_count(c.handle, C.int32_t(node), C.int16_t(api)))
}

// Log gives the values of a partition's records, in the order of their offsets.
func (c *Cluster) Log(partition int) [][]byte {
	var values [][]byte
	var record C.producer_record_t
	name, number := C.producer_str(c.topic), C.int32_t(partition)
	end := C.producer_mock_cluster_end_offset(c.handle, name, number)
	for offset := C.int64_t(0); offset < end; offset++ {
		if !C.producer_mock_cluster_read(c.handle, name, number, offset, &record) {
			panic(fmt.Sprintf("partition %d ends at %d and has no record at %d",
				partition, end, offset))
		}
		value := record.value
		values = append(values, C.GoBytes(unsafe.Pointer(value.data), C.int(value.len)))
	}
	return values
}

// Outcome is what became of a record.
type Outcome struct {
	Partition int
	Status    int32
	Flags     uint32
	Attempts  int32
	Stage     int32
	Message   string
}

// Producer is a producer whose deliveries a goroutine polls. Any goroutine may use it.
type Producer struct {
	handle *C.producer_t
	topic  *C.char
	polled chan error

	mutex    sync.Mutex
	outcomes map[uint64]Outcome
	twice    []uint64
}

// NewProducer starts a producer for one topic.
func NewProducer(topic string, settings map[string]string) (*Producer, error) {
	config := C.producer_config_new()
	defer C.producer_config_free(config)
	var err C.producer_error_t
	for key, value := range settings {
		name, text := C.CString(key), C.CString(value)
		status := C.producer_config_set(config, name, text, &err)
		C.free(unsafe.Pointer(name))
		C.free(unsafe.Pointer(text))
		if err := check(status, &err); err != nil {
			return nil, err
		}
	}
	if err := check(C.producer_config_enable_poll(config), nil); err != nil {
		return nil, err
	}
	var handle *C.producer_t
	if err := check(C.producer_new(config, &handle, &err), &err); err != nil {
		return nil, err
	}
	producer := &Producer{
		handle:   handle,
		topic:    C.CString(topic),
		polled:   make(chan error, 1),
		outcomes: make(map[uint64]Outcome),
	}
	go func() { producer.polled <- producer.poll() }()
	return producer, nil
}

// Polls until the producer is closed and its last delivery was given.
func (p *Producer) poll() error {
	const capacity = 64
	var unit C.producer_delivery_t
	memory := C.calloc(capacity, C.size_t(unsafe.Sizeof(unit)))
	defer C.free(memory)
	first := (*C.producer_delivery_t)(memory)
	var count C.size_t
	for {
		status := C.producer_poll(p.handle, first, capacity, 100, &count)
		if status == C.PRODUCER_ERR_CLOSED {
			return nil
		}
		if status != C.PRODUCER_OK {
			return check(status, nil)
		}
		p.enter(unsafe.Slice(first, int(count)))
	}
}

func (p *Producer) enter(deliveries []C.producer_delivery_t) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for i := range deliveries {
		delivery := &deliveries[i]
		outcome := Outcome{
			Partition: int(delivery.partition),
			Status:    int32(delivery.status),
			Flags:     uint32(delivery.flags),
		}
		if why := delivery.failure; why != nil {
			outcome.Attempts, outcome.Stage = int32(why.attempts), int32(why.stage)
			outcome.Message = C.GoString(why.message)
		}
		for _, tag := range unsafe.Slice(delivery.tags, int(delivery.count)) {
			if _, known := p.outcomes[uint64(tag)]; known {
				p.twice = append(p.twice, uint64(tag))
			}
			p.outcomes[uint64(tag)] = outcome
		}
	}
}

// Send sends a record; the value is not empty.
func (p *Producer) Send(partition int, value []byte, tag uint64) error {
	var err C.producer_error_t
	return check(C.send_record(p.handle, p.topic, C.int32_t(partition), unsafe.Pointer(&value[0]),
		C.size_t(len(value)), C.uint64_t(tag), &err), &err)
}

// Flush waits until all has its outcome.
func (p *Producer) Flush(timeoutMs int) error {
	var err C.producer_error_t
	return check(C.producer_flush(p.handle, C.int32_t(timeoutMs), &err), &err)
}

// Outcomes gives what was polled so far, and the tags that were reported more than once.
func (p *Producer) Outcomes() (map[uint64]Outcome, []uint64) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	outcomes := make(map[uint64]Outcome, len(p.outcomes))
	for tag, outcome := range p.outcomes {
		outcomes[tag] = outcome
	}
	return outcomes, append([]uint64(nil), p.twice...)
}

// Pending counts the records without outcome.
func (p *Producer) Pending() (uint64, error) {
	var counters C.producer_counters_t
	err := check(C.producer_get_counters(p.handle, &counters), nil)
	return uint64(counters.pending), err
}

// Close closes and frees the producer, and gives the goroutine's error if it had one. Nothing may
// be called after it but Outcomes.
func (p *Producer) Close(timeoutMs int) error {
	var err C.producer_error_t
	closed := check(C.producer_close(p.handle, C.int32_t(timeoutMs), nil, &err), &err)
	polled := <-p.polled
	C.producer_free(p.handle)
	C.free(unsafe.Pointer(p.topic))
	if closed != nil {
		return closed
	}
	return polled
}
