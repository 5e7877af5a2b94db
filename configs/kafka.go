package configs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
)

// readKafka reads the section kafka; nil when there is none.
func (r *reader) readKafka(top *section) *Kafka {
	n := top.node("kafka")
	if n == nil {
		return nil
	}
	s := r.section(n, "kafka", "kafka", top.at)
	return &Kafka{Brokers: s.readBrokers(), TLS: r.readTLS(s), SASL: r.readSASL(s)}
}

// readBrokers reads the addresses. An element that came from a reference may hold several.
func (s *section) readBrokers() []string {
	items, ok := s.elements("brokers")
	if s.node("brokers") == nil {
		s.missing("brokers", "list at least one, such as [kafka-1:9092]")
	} else if ok && len(items) == 0 {
		s.fault(s.node("brokers").at, s.object("brokers"), problem{"got no broker, want at least one", ""})
	}
	var brokers []string
	lines := map[string]int{}
	for _, n := range items {
		v, ok := s.scalar(n, s.object("brokers"), "host:port", false)
		if !ok {
			continue
		}
		parts := []string{v.text}
		if v.from != "" {
			parts = strings.Split(v.text, ",")
		}
		for _, part := range parts {
			one := v
			one.text = part
			if v.from != "" {
				one.text = strings.TrimSpace(part)
			}
			address, ok := judge(s.reader, one, s.object("brokers"), parseBroker)
			if line, doubled := lines[address]; ok && doubled {
				s.fault(n.at, s.object("brokers"), problem{fmt.Sprintf("%q is given twice%s", address, firstIn(line, n.at)), ""})
			} else if ok {
				lines[address] = n.at.line
				brokers = append(brokers, address)
			}
		}
	}
	return brokers
}

// readTLS reads kafka.tls and the files that it names.
func (r *reader) readTLS(kafka *section) *TLS {
	n := kafka.node("tls")
	if n == nil {
		return nil
	}
	if n.kind != kindMapping {
		r.wrongKind(n, kafka.object("tls"), "keys and values such as {ca_file: ca.pem}, or {} to trust the system's certificates")
		return nil
	}
	s := r.section(n, "kafka.tls", "kafka: tls", kafka.at)
	ca, caPEM, _ := s.readFile("ca_file")
	cert, certPEM, certOK := s.readFile("cert_file")
	key, keyPEM, keyOK := s.readFile("key_file")
	t := &TLS{CAFile: ca.value, CA: caPEM, CertFile: cert.value, Cert: certPEM, KeyFile: key.value, Key: Secret(keyPEM)}
	t.ServerName = optional(s, "server_name", "", parseText).value
	if caPEM != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(caPEM)) {
		s.fault(ca.at, s.object("ca_file"), problem{fmt.Sprintf("the file %q holds no certificate, want PEM: -----BEGIN CERTIFICATE-----", ca.value), ""})
	}
	switch {
	case cert.given && !key.given:
		s.missing("key_file", "a cert_file needs its private key")
	case key.given && !cert.given:
		s.missing("cert_file", "a key_file needs its certificate")
	case certOK && keyOK:
		if _, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM)); err != nil {
			s.fault(cert.at, s.object("cert_file"), problem{fmt.Sprintf("the files %q and %q are no certificate and key: %s",
				cert.value, key.value, strings.TrimPrefix(err.Error(), "tls: ")), ""})
		}
	}
	return t
}

// readFile reads a key that names a file, and the file; ok is false without one.
func (s *section) readFile(key string) (name setting[string], content string, ok bool) {
	name = optional(s, key, "", parseText)
	if !name.given || !name.ok {
		return name, "", false
	}
	content, err := s.resolver.file(name.value)
	if err == nil && content == "" {
		err = problem{fmt.Sprintf("the file %q is empty", name.value), ""}
	}
	if err != nil {
		judge(s.reader, value{at: name.at}, s.object(key), func(value) (string, error) { return "", err })
		return name, "", false
	}
	return name, content, true
}

// readSASL reads kafka.sasl and the file with the password.
func (r *reader) readSASL(kafka *section) *SASL {
	n := kafka.node("sasl")
	if n == nil {
		return nil
	}
	s := r.section(n, "kafka.sasl", "kafka: sasl", kafka.at)
	a := &SASL{
		Mechanism: required(s, "mechanism", "want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
			choice("kafka.sasl.mechanism", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")).value,
		Username: required(s, "username", "name the user", parseText).value,
	}
	password := optional(s, "password", "", parseText)
	file, content, fileOK := s.readFile("password_file")
	a.Password, a.PasswordFile = Secret(password.value), file.value
	switch {
	case password.given && file.given:
		s.fault(file.at, s.label, problem{"got both password and password_file, want one of them", ""})
	case file.given:
		content = strings.TrimSuffix(strings.TrimSuffix(content, "\n"), "\r")
		a.Password = Secret(content)
		if fileOK && content == "" {
			s.fault(file.at, s.object("password_file"), problem{fmt.Sprintf("the file %q holds no password", file.value), ""})
		}
	case !password.given:
		s.missing("password", "give it, or a password_file")
	}
	return a
}
