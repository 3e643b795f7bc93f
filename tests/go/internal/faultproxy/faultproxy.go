// Package faultproxy runs the fault proxy (tests/support/fault_proxy, whose main.rs has the
// commands) as a child process and speaks its line protocol.
package faultproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// No answer takes longer.
const patience = 30 * time.Second

// Proxy is a running proxy. One goroutine at a time may use it.
type Proxy struct {
	process *exec.Cmd
	// Its stdin: it ends with it, and so with this process.
	owner   io.Closer
	control net.Conn
	answers *bufio.Reader
}

// Start runs the program, without routes.
func Start(program string) (*Proxy, error) {
	process := exec.Command(program)
	process.Stderr = os.Stderr
	owner, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	said, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	proxy := &Proxy{process: process, owner: owner}
	if err := proxy.connect(bufio.NewReader(said)); err != nil {
		proxy.Stop()
		return nil, err
	}
	return proxy, nil
}

func (p *Proxy) connect(said *bufio.Reader) error {
	var address string
	if _, err := fmt.Fscanf(said, "control %s\n", &address); err != nil {
		return fmt.Errorf("the fault proxy does not say where it listens: %w", err)
	}
	if line, err := said.ReadString('\n'); err != nil || line != "ready\n" {
		return fmt.Errorf("the fault proxy says %q instead of ready: %v", line, err)
	}
	control, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	p.control, p.answers = control, bufio.NewReader(control)
	return nil
}

// Command carries out a command and gives what follows the `ok`.
func (p *Proxy) Command(format string, arguments ...any) (string, error) {
	lines, err := p.lines(fmt.Sprintf(format, arguments...))
	if err != nil {
		return "", err
	}
	return lines[len(lines)-1], nil
}

// All lines of an answer, the last one without its `ok`.
func (p *Proxy) lines(command string) ([]string, error) {
	if err := p.control.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(p.control, command); err != nil {
		return nil, err
	}
	var lines []string
	for {
		line, err := p.answers.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		line = strings.TrimRight(line, "\n")
		if line == "ok" || strings.HasPrefix(line, "ok ") {
			return append(lines, strings.TrimSpace(line[2:])), nil
		}
		if strings.HasPrefix(line, "error") {
			return nil, fmt.Errorf("%s: %s", command, line)
		}
		lines = append(lines, line)
	}
}

// Route listens for a backend and gives its port. Routes are numbered from 1.
func (p *Proxy) Route(backend string) (uint16, error) {
	answer, err := p.Command("route %s", backend)
	if err != nil {
		return 0, err
	}
	var number, port uint16
	if _, err := fmt.Sscanf(answer, "%d 127.0.0.1:%d", &number, &port); err != nil {
		return 0, fmt.Errorf("%q is no route: %w", answer, err)
	}
	return port, nil
}

// Connections gives the numbers of a route's open connections. A number is never used again.
func (p *Proxy) Connections(route int) (map[int]bool, error) {
	lines, err := p.lines("connections")
	if err != nil {
		return nil, err
	}
	open := make(map[int]bool)
	for _, line := range lines[:len(lines)-1] {
		var id, of int
		if _, err := fmt.Sscanf(line, "connection %d %d", &id, &of); err != nil {
			return nil, fmt.Errorf("%q is no connection: %w", line, err)
		}
		if of == route {
			open[id] = true
		}
	}
	return open, nil
}

// Stop ends the process and waits for its end.
func (p *Proxy) Stop() error {
	p.owner.Close()
	if p.control != nil {
		p.control.Close()
	}
	return p.process.Wait()
}
