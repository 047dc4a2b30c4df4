package dashboard

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// login lets in who knows the token. A browser that does gets a session: a cookie with its end, signed by a key that is made of
// the token. So sessions need no memory, outlive the daemon, and end when the token is replaced.
type login struct {
	token  string // "" = all are let in
	key    []byte
	cookie string // its name; differs by token, since a browser does not tell ports apart
	log    *slog.Logger
	tries  tries
	cross  http.CrossOriginProtection
}

const sessionTime = 12 * time.Hour

func newLogin(token string, log *slog.Logger) *login {
	key := sha256.Sum256([]byte("respirate session\x00" + token))
	name := sha256.Sum256([]byte("respirate cookie\x00" + token))
	return &login{token: token, key: key[:], cookie: "respirate_" + hex.EncodeToString(name[:4]), log: log, tries: tries{left: map[string]allowance{}}}
}

// admits says whether whoever asks may look, and else answers.
func (l *login) admits(w http.ResponseWriter, r *http.Request) bool {
	if l.token == "" || l.hasSession(r, time.Now()) {
		return true
	}
	bearer, tried := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if tried {
		ok, wait := l.check(r, strings.TrimSpace(bearer))
		if wait {
			tooMany(w)
		}
		if ok || wait {
			return ok
		}
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="respirate"`)
	if tried || r.URL.Path == "/metrics" || strings.HasPrefix(r.URL.Path, apiPrefix) {
		http.Error(w, "this needs the login token: Authorization: Bearer ...", http.StatusUnauthorized)
		return false
	}
	l.form(w, r, http.StatusUnauthorized, "")
	return false
}

// check compares a token with the right one, unless too many wrong ones have come from there.
func (l *login) check(r *http.Request, token string) (ok, wait bool) {
	from, now := addressOf(r), time.Now()
	if !l.tries.may(from, now) {
		return false, true
	}
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(l.token))
	if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
		return true, false
	}
	if l.tries.failed(from, now) {
		l.log.Warn("wrong login tokens: no more are looked at for a while", "from", from)
	}
	return false, false
}

func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(int(tryAgain/time.Second)))
	http.Error(w, "too many wrong login tokens have come from your address: wait for a minute", http.StatusTooManyRequests)
}

// serve shows the form, and takes it in.
func (l *login) serve(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		l.form(w, r, http.StatusOK, "")
		return
	case http.MethodPost:
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "this is a form", http.StatusMethodNotAllowed)
		return
	}
	if err := l.cross.Check(r); err != nil {
		http.Error(w, "this form was sent by another site", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	ok, wait := l.check(r, strings.TrimSpace(r.PostFormValue("token")))
	switch {
	case wait:
		tooMany(w)
	case !ok:
		l.form(w, r, http.StatusUnauthorized, "That is not the token.")
	default:
		http.SetCookie(w, &http.Cookie{
			// Without a path it is for the folder that the form is in, wherever that is mounted.
			Name: l.cookie, Value: l.session(time.Now().Add(sessionTime)), MaxAge: int(sessionTime / time.Second),
			HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
		})
		w.Header().Set("Location", "./") // of the form; http.Redirect would make it absolute, and lose the prefix
		w.WriteHeader(http.StatusSeeOther)
	}
}

func (l *login) form(w http.ResponseWriter, r *http.Request, code int, complaint string) {
	render(w, code, "login", struct {
		frame
		Complaint string
	}{frameOf(r, "login"), complaint})
}

// session is the value of a cookie that is good until then.
func (l *login) session(until time.Time) string {
	end := strconv.FormatInt(until.Unix(), 10)
	return end + "." + l.sign(end)
}

func (l *login) sign(text string) string {
	mac := hmac.New(sha256.New, l.key)
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (l *login) hasSession(r *http.Request, now time.Time) bool {
	for _, c := range r.CookiesNamed(l.cookie) {
		end, signature, _ := strings.Cut(c.Value, ".")
		if !hmac.Equal([]byte(signature), []byte(l.sign(end))) {
			continue
		}
		if until, err := strconv.ParseInt(end, 10, 64); err == nil && now.Before(time.Unix(until, 0)) {
			return true
		}
	}
	return false
}

// tries bounds how many wrong tokens are looked at: ten at once from an address, and one more each tryAgain.
type tries struct {
	mu   sync.Mutex           // guards left
	left map[string]allowance // of addresses that wrong ones came from; at most mostAddresses
}

// allowance is how many more wrong tokens may come, as of then.
type allowance struct {
	n  float64
	at time.Time
}

const (
	mostTries     = 10
	tryAgain      = 6 * time.Second
	mostAddresses = 4096
)

func (a allowance) now(now time.Time) float64 {
	return min(mostTries, a.n+float64(now.Sub(a.at))/float64(tryAgain))
}

func (t *tries) may(from string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, known := t.left[t.slot(from)]
	return !known || a.now(now) >= 1
}

// failed takes in a wrong token, and says whether that was the last for now.
func (t *tries) failed(from string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.left) >= mostAddresses {
		for one, a := range t.left {
			if a.now(now) >= mostTries {
				delete(t.left, one)
			}
		}
	}
	slot := t.slot(from)
	a, known := t.left[slot]
	n := float64(mostTries)
	if known {
		n = a.now(now)
	}
	t.left[slot] = allowance{n - 1, now}
	return n-1 < 1
}

// slot is where an address is counted. When there are too many, new ones share one.
func (t *tries) slot(from string) string {
	if _, known := t.left[from]; !known && len(t.left) >= mostAddresses {
		return ""
	}
	return from
}

// addressOf is where a request comes from: of IPv6, the network that one customer has.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}
