// The credentials that hold: those of the auth file, which may change while the gateway runs. Another text counts once two looks have found it, since
// whoever writes it may be half way, or at once when somebody says that it is done (SIGHUP). A fault in it changes nothing.
import { type Authenticator, type AuthenticatorDeps, createAuthenticator } from './auth.ts'
import { authFileText, readAuthFile } from './auth-file.ts'

export class CurrentCredentials {
  private readonly path: string
  private readonly deps: AuthenticatorDeps
  private text: string
  private seen: string
  private current: Authenticator

  /** Throws RefusedError `err-carillon-auth-file`, as `look` does. */
  constructor(path: string, deps: AuthenticatorDeps) {
    this.path = path
    this.deps = deps
    this.text = authFileText(path)
    this.seen = this.text
    this.current = createAuthenticator(readAuthFile(this.text), deps)
  }

  authenticator(): Authenticator {
    return this.current
  }

  /** True when others hold from now on. */
  look({ isSettled = false } = {}): boolean {
    const text = authFileText(this.path)
    const isNews = text !== this.text && (isSettled || text === this.seen)
    this.seen = text
    if (!isNews) return false
    this.current = createAuthenticator(readAuthFile(text), this.deps)
    this.text = text
    return true
  }
}
