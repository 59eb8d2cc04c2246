// How far something is, for a person who waits: one line that changes on a terminal, a line for each thing done elsewhere.
import { systemClock } from '../../shared/base/clock.ts'
import { showBytes } from '../../shared/config/units.ts'

const SHOW_EVERY_MS = 200

export interface Progress {
  begin(title: string, total: number): void
  add(bytes: number): void
  note(text: string): void
  end(text: string): void
}

export function progressTo(stream: NodeJS.WriteStream): Progress {
  let title = ''
  let total = 0
  let count = 0
  let shownAt = Number.NEGATIVE_INFINITY

  function show(text: string): void {
    if (!stream.isTTY) return
    if (systemClock.monotonic() - shownAt < SHOW_EVERY_MS) return
    shownAt = systemClock.monotonic()
    stream.write(`\r\u001b[K${text}`)
  }

  return {
    begin(what, bytes) {
      title = what
      total = bytes
      count = 0
      show(title)
    },
    add(bytes) {
      count += bytes
      const share = total === 0 ? 100 : Math.min(100, Math.floor((100 * count) / total))
      show(`${title}: ${share} % of ${showBytes(total)}`)
    },
    note: (text) => show(`${title}: ${text}`),
    end(text) {
      stream.write(stream.isTTY ? `\r\u001b[K${text}\n` : `${text}\n`)
    },
  }
}
