// A Google Cloud Storage to try Strongroom against: fake-gcs-server keeps the objects and answers by its JSON
// interface; this program puts the XML interface before it, which Strongroom speaks, as far as it is used:
// conditional uploads, uploads in parts, downloads, listings in pages, deletions, and errors in XML.
//
//	gcs ROLES BUCKET...
//
// It listens on a free port of 127.0.0.1, prints the URL and ends with its standard input.
//
// http://127.0.0.1:PORT/as/ROLE is the same service to somebody with fewer permissions (roles.go), as the files in
// the directory ROLES say.
package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// How many names a page of a listing holds at most. The real service has 1,000; few make a listing of several pages.
const pageSize = 100

type service struct {
	fake    *fakestorage.Server
	buckets []string
	roles   map[string]role

	mu      sync.Mutex
	uploads map[string]map[int][]byte
	next    int
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("gcs ROLES BUCKET...")
	}
	fake, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	if err != nil {
		log.Fatal(err)
	}
	s := &service{fake: fake, buckets: os.Args[2:], roles: readRoles(os.Args[1]), uploads: map[string]map[int][]byte{}}
	for _, bucket := range s.buckets {
		fake.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		log.Fatal(http.Serve(listener, s))
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	role := s.roles["owner"]
	if rest, found := strings.CutPrefix(path, "as/"); found {
		name, rest, _ := strings.Cut(rest, "/")
		role, path = s.roles[name], rest
	}
	bucket, object, _ := strings.Cut(path, "/")
	bucket, _ = url.PathUnescape(bucket)
	object, _ = url.PathUnescape(object)
	query := r.URL.Query()
	switch {
	case role.status != 0:
		fail(w, role.status, role.code)
	case !slices.Contains(s.buckets, bucket):
		fail(w, http.StatusNotFound, "NoSuchBucket")
	case object == "" && r.Method == http.MethodGet:
		s.ifAllowed(w, role.may("storage.objects.list"), func() { s.list(w, bucket, query) })
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		s.ifAllowed(w, role.may("storage.objects.get"), func() { s.get(w, r, bucket, object) })
	case r.Method == http.MethodPut && query.Has("uploadId"):
		s.ifAllowed(w, role.may("storage.multipartUploads.create", "storage.objects.create"), func() { s.putPart(w, r, query) })
	case r.Method == http.MethodPut:
		s.ifAllowed(w, role.may("storage.objects.create"), func() { s.put(w, r.Body, bucket, object, r.Header, role) })
	case r.Method == http.MethodPost && query.Has("uploads"):
		s.ifAllowed(w, role.may("storage.multipartUploads.create", "storage.objects.create"), func() { s.begin(w) })
	case r.Method == http.MethodPost && query.Has("uploadId"):
		s.ifAllowed(w, role.may("storage.multipartUploads.create", "storage.objects.create"), func() { s.complete(w, r, bucket, object, role) })
	case r.Method == http.MethodDelete && query.Has("uploadId"):
		s.ifAllowed(w, role.may("storage.multipartUploads.abort"), func() { s.abort(w, query.Get("uploadId")) })
	case r.Method == http.MethodDelete:
		s.ifAllowed(w, role.may("storage.objects.delete"), func() { s.delete(w, bucket, object) })
	default:
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

func (s *service) ifAllowed(w http.ResponseWriter, allowed bool, do func()) {
	if !allowed {
		fail(w, http.StatusForbidden, "AccessDenied")
		return
	}
	do()
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code><Message>m</Message></Error>", code)
}

// Asks the server that keeps the objects.
func (s *service) ask(method, target string, body io.Reader, header http.Header) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, target, body)
	for key, values := range header {
		request.Header[key] = values
	}
	recorder := httptest.NewRecorder()
	s.fake.HTTPHandler().ServeHTTP(recorder, request)
	return recorder
}

func (s *service) has(bucket, object string) bool {
	found, err := s.fake.GetObjectStreaming(bucket, object)
	if err == nil {
		found.Close()
	}
	return err == nil
}

func (s *service) put(w http.ResponseWriter, body io.Reader, bucket, object string, header http.Header, role role) {
	// Replacing is deleting. Whether the real service looks at the condition first is not written anywhere.
	if !role.may("storage.objects.delete") && s.has(bucket, object) {
		fail(w, http.StatusForbidden, "AccessDenied")
		return
	}
	query := url.Values{"uploadType": {"media"}, "name": {object}}
	if generation := header.Get("x-goog-if-generation-match"); generation != "" {
		query.Set("ifGenerationMatch", generation)
	}
	target := "/upload/storage/v1/b/" + url.PathEscape(bucket) + "/o?" + query.Encode()
	answer := s.ask(http.MethodPost, target, body, nil)
	var stored struct {
		Etag       string `json:"etag"`
		Generation string `json:"generation"`
	}
	switch {
	case answer.Code == http.StatusPreconditionFailed:
		fail(w, answer.Code, "PreconditionFailed")
	case answer.Code != http.StatusOK || json.Unmarshal(answer.Body.Bytes(), &stored) != nil:
		fail(w, http.StatusInternalServerError, "InternalError")
	default:
		w.Header().Set("ETag", strconv.Quote(strings.Trim(stored.Etag, `"`)))
		w.Header().Set("x-goog-generation", stored.Generation)
		w.WriteHeader(http.StatusOK)
	}
}

func (s *service) get(w http.ResponseWriter, r *http.Request, bucket, object string) {
	target := "/download/storage/v1/b/" + url.PathEscape(bucket) + "/o/" + url.PathEscape(object)
	answer := s.ask(r.Method, target, nil, r.Header)
	if answer.Code == http.StatusNotFound {
		fail(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = io.Copy(w, answer.Body)
}

func (s *service) delete(w http.ResponseWriter, bucket, object string) {
	target := "/storage/v1/b/" + url.PathEscape(bucket) + "/o/" + url.PathEscape(object)
	if s.ask(http.MethodDelete, target, nil, nil).Code == http.StatusNotFound {
		fail(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *service) list(w http.ResponseWriter, bucket string, query url.Values) {
	type contents struct {
		Key, LastModified, ETag string
		Size                    int64
	}
	type listing struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []contents
	}
	found, _, err := s.fake.ListObjectsWithOptions(bucket, fakestorage.ListOptions{Prefix: query.Get("prefix")})
	if err != nil {
		fail(w, http.StatusInternalServerError, "InternalError")
		return
	}
	slices.SortFunc(found, func(a, b fakestorage.ObjectAttrs) int { return strings.Compare(a.Name, b.Name) })
	var page listing
	for _, object := range found {
		if object.Name <= query.Get("continuation-token") {
			continue
		}
		if len(page.Contents) == pageSize {
			page.IsTruncated = true
			page.NextContinuationToken = page.Contents[pageSize-1].Key
			break
		}
		page.Contents = append(page.Contents, contents{
			Key:          object.Name,
			LastModified: object.Updated.UTC().Format(time.RFC3339Nano),
			ETag:         strconv.Quote(object.Etag),
			Size:         object.Size,
		})
	}
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	_ = xml.NewEncoder(w).Encode(page)
}

func (s *service) begin(w http.ResponseWriter) {
	s.mu.Lock()
	s.next++
	id := fmt.Sprintf("upload-%d", s.next)
	s.uploads[id] = map[int][]byte{}
	s.mu.Unlock()
	fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
}

func (s *service) putPart(w http.ResponseWriter, r *http.Request, query url.Values) {
	number, err := strconv.Atoi(query.Get("partNumber"))
	body, read := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := s.uploads[query.Get("uploadId")]
	switch {
	case parts == nil:
		fail(w, http.StatusNotFound, "NoSuchUpload")
	case err != nil || read != nil || number < 1 || number > 10_000:
		fail(w, http.StatusBadRequest, "InvalidArgument")
	default:
		parts[number] = body
		w.Header().Set("ETag", etag(body))
		w.WriteHeader(http.StatusOK)
	}
}

func etag(body []byte) string {
	sum := md5.Sum(body)
	return strconv.Quote(hex.EncodeToString(sum[:]))
}

func (s *service) complete(w http.ResponseWriter, r *http.Request, bucket, object string, role role) {
	var wanted struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	id := r.URL.Query().Get("uploadId")
	err := xml.NewDecoder(r.Body).Decode(&wanted)
	s.mu.Lock()
	parts := s.uploads[id]
	delete(s.uploads, id)
	s.mu.Unlock()
	if parts == nil {
		fail(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	if err != nil || len(wanted.Part) == 0 {
		fail(w, http.StatusBadRequest, "MalformedMultipartUpload")
		return
	}
	var whole []io.Reader
	for at, part := range wanted.Part {
		body, found := parts[part.PartNumber]
		isLast := at == len(wanted.Part)-1
		if !found || etag(body) != part.ETag || (len(body) < 5<<20 && !isLast) {
			fail(w, http.StatusBadRequest, "InvalidPart")
			return
		}
		whole = append(whole, strings.NewReader(string(body)))
	}
	recorder := httptest.NewRecorder()
	s.put(recorder, io.MultiReader(whole...), bucket, object, nil, role)
	if recorder.Code != http.StatusOK {
		for key, values := range recorder.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
		return
	}
	w.Header().Set("x-goog-generation", recorder.Header().Get("x-goog-generation"))
	fmt.Fprintf(w, "<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>",
		strings.Trim(recorder.Header().Get("ETag"), `"`))
}

func (s *service) abort(w http.ResponseWriter, id string) {
	s.mu.Lock()
	delete(s.uploads, id)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}
