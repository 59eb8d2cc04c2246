// SHA-256: what names content, and what says that bytes are the ones that were written.
import { hash } from 'node:crypto'

/** 64 hex digits; of text the UTF-8 bytes count. */
export function sha256Of(content: Uint8Array | string): string {
  return hash('sha256', content, 'hex')
}
