// Subjects as the server matches them: tokens joined by `.`, `*` stands for one token, a last `>` for one or more.

const DOT = 0x2e
const ANY = 0x2a
const REST = 0x3e

/** Whether `subject` (without wildcards) is matched by `filter`. Cuts nothing up: a hub in memory does hardly anything more often. */
export function isMatch(filter: string, subject: string): boolean {
  if (filter === subject) return true
  let at = 0
  for (let from = 0; from < filter.length; from++, at++) {
    const first = filter.charCodeAt(from)
    const isToken = (from === 0 || filter.charCodeAt(from - 1) === DOT) && isEnd(filter, from + 1)
    if (isToken && first === REST) return at <= subject.length
    if (isToken && first === ANY) {
      while (!isEnd(subject, at)) at++
      at--
    } else if (at >= subject.length || first !== subject.charCodeAt(at)) return false
  }
  return at === subject.length
}

const isEnd = (text: string, at: number): boolean => at >= text.length || text.charCodeAt(at) === DOT

export function hasWildcard(subject: string): boolean {
  return subject.includes('*') || subject.includes('>')
}
