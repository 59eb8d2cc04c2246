// Subjects as the server matches them: tokens joined by `.`, `*` stands for one token, a last `>` for one or more.

/** Whether `subject` (without wildcards) is matched by `filter`. */
export function isMatch(filter: string, subject: string): boolean {
  if (filter === subject) return true
  const wanted = filter.split('.')
  const tokens = subject.split('.')
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === '>') return tokens.length > i
    if (i >= tokens.length || (wanted[i] !== '*' && wanted[i] !== tokens[i])) return false
  }
  return wanted.length === tokens.length
}

export function hasWildcard(subject: string): boolean {
  return subject.includes('*') || subject.includes('>')
}
