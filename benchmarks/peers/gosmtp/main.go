// gosmtp: go-smtp as an LMTP server that accepts every message and forgets it. gosmtp PORT
package main

import (
	"io"
	"io/ioutil"
	"log"
	"net"
	"os"

	"github.com/emersion/go-smtp"
)

type backend struct{}

func (backend) Login(*smtp.ConnectionState, string, string) (smtp.Session, error) {
	return nil, smtp.ErrAuthUnsupported
}

func (backend) AnonymousLogin(*smtp.ConnectionState) (smtp.Session, error) {
	return &session{}, nil
}

type session struct{ recipients []string }

func (s *session) Reset()                              { s.recipients = nil }
func (s *session) Logout() error                       { return nil }
func (s *session) Mail(string, smtp.MailOptions) error { return nil }
func (s *session) Rcpt(to string) error                { s.recipients = append(s.recipients, to); return nil }
func (s *session) Data(r io.Reader) error              { _, err := io.Copy(ioutil.Discard, r); return err }

func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	err := s.Data(r)
	for _, recipient := range s.recipients {
		status.SetStatus(recipient, err)
	}
	return nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := smtp.NewServer(backend{})
	server.LMTP = true
	server.AuthDisabled = true
	server.Domain = "localhost"
	log.Fatal(server.Serve(listener))
}
