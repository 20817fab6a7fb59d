package web_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/web"
)

// TestPublicOnly: what is not an address of the internet is not dialled, however it is written.
func TestPublicOnly(t *testing.T) {
	for address, good := range map[string]bool{
		"1.1.1.1:443": true, "[2606:4700::1111]:443": true, "8.8.8.8:80": true,
		"127.0.0.1:80": false, "127.9.9.9:80": false, "[::1]:80": false, "[::ffff:127.0.0.1]:80": false, "0.0.0.0:80": false, "[::]:80": false,
		"10.0.0.1:80": false, "172.16.3.4:80": false, "192.168.1.1:80": false, "[fd00::1]:80": false, "[::ffff:10.0.0.1]:80": false,
		"169.254.169.254:80": false, "[fe80::1]:80": false, "[fe80::1%eth0]:80": false, "224.0.0.1:80": false, "[ff02::1]:80": false, "255.255.255.255:80": false,
		"168.63.129.16:80": false, "[::ffff:168.63.129.16]:80": false, "168.63.129.17:80": true, "192.88.99.1:80": false,
		"100.64.0.1:80": false, "0.1.2.3:80": false, "[64:ff9b::7f00:1]:80": false, "[2002:7f00:1::]:80": false, "localhost:80": false, "": false,
	} {
		if err := web.PublicOnly("tcp", address, nil); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestPublicOnlyAfterNamesAreResolved: a name is no way around it.
func TestPublicOnlyAfterNamesAreResolved(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dialer := net.Dialer{Control: web.PublicOnly}
	conn, err := dialer.DialContext(context.Background(), "tcp4", net.JoinHostPort("localhost", port))
	if err == nil {
		t.Fatalf("dialled %s: %v", conn.RemoteAddr(), conn.Close())
	}
	if !strings.Contains(err.Error(), "not an address of the internet") {
		t.Error(err)
	}
}
