// The S3 server of the tests: MinIO, and a command that makes buckets and users on it.
//
//	serve ADDRESS [CERTIFICATES]  serves a directory of its own until standard input ends
//	prepare                       reads what to make from standard input, as JSON, and waits until it is made
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/minio/madmin-go/v3"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	server "github.com/minio/minio/cmd"
)

// What to make; secrets come by standard input, never as arguments.
type preparation struct {
	Address   string `json:"address"`
	TLS       bool   `json:"tls"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	Region    string `json:"region"`
	Buckets   []struct {
		Name      string `json:"name"`
		Versioned bool   `json:"versioned"`
		Lock      bool   `json:"lock"`
	} `json:"buckets"`
	Users []struct {
		AccessKey string          `json:"access_key"`
		SecretKey string          `json:"secret_key"`
		Policy    json.RawMessage `json:"policy"`
	} `json:"users"`
}

// How long a server may take to begin.
const patience = 60 * time.Second

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "prepare":
		err = prepare(context.Background())
	case len(os.Args) >= 3 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3:])
	default:
		err = errors.New("say serve ADDRESS [CERTIFICATES], or prepare")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Serves until the test that started it is gone, however that ends; nothing is left.
func serve(address string, certificates []string) error {
	directory, err := os.MkdirTemp("", "strongroom-minio-")
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = os.RemoveAll(directory)
		os.Exit(0)
	}()
	arguments := []string{"minio", "server", directory, "--address", address, "--quiet"}
	if len(certificates) > 0 {
		arguments = append(arguments, "--certs-dir", certificates[0])
	}
	server.Main(arguments)
	return nil
}

func prepare(ctx context.Context) error {
	var wanted preparation
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		return err
	}
	// The server is on loopback, and its certificate is the one that a test just made.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	root := credentials.NewStaticV4(wanted.AccessKey, wanted.SecretKey, "")
	client, err := minio.New(wanted.Address, &minio.Options{
		Creds: root, Secure: wanted.TLS, Region: wanted.Region, Transport: transport,
	})
	if err != nil {
		return err
	}
	begun := time.Now()
	for _, err = client.ListBuckets(ctx); err != nil; _, err = client.ListBuckets(ctx) {
		if time.Since(begun) > patience {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, bucket := range wanted.Buckets {
		options := minio.MakeBucketOptions{Region: wanted.Region, ObjectLocking: bucket.Lock}
		if err := client.MakeBucket(ctx, bucket.Name, options); err != nil {
			return fmt.Errorf("bucket %s: %w", bucket.Name, err)
		}
		if bucket.Versioned && !bucket.Lock {
			if err := client.EnableVersioning(ctx, bucket.Name); err != nil {
				return fmt.Errorf("versions of %s: %w", bucket.Name, err)
			}
		}
	}
	admin, err := madmin.NewWithOptions(wanted.Address, &madmin.Options{Creds: root, Secure: wanted.TLS})
	if err != nil {
		return err
	}
	admin.SetCustomTransport(transport)
	for _, user := range wanted.Users {
		if err := admin.AddUser(ctx, user.AccessKey, user.SecretKey); err != nil {
			return fmt.Errorf("user %s: %w", user.AccessKey, err)
		}
		if err := admin.AddCannedPolicy(ctx, user.AccessKey, user.Policy); err != nil {
			return fmt.Errorf("policy of %s: %w", user.AccessKey, err)
		}
		attach := madmin.PolicyAssociationReq{Policies: []string{user.AccessKey}, User: user.AccessKey}
		if _, err := admin.AttachPolicy(ctx, attach); err != nil {
			return fmt.Errorf("policy of %s: %w", user.AccessKey, err)
		}
	}
	return nil
}
