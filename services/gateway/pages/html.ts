// Plain pages for people: a title, what is said above, tables. Nothing on them comes from elsewhere, no script runs.
import type { Answer } from '../http/exchange.ts'

const STYLE = `body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}
td,th{border:1px solid #bbb;padding:.25em .6em;text-align:left}tr.bad td{background:#fdd}tr.moving td{background:#ffd}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}tr.bad td{background:#522}tr.moving td{background:#442}}`

/** `body`: HTML, with all texts of others `escaped`. The page is loaded again every 5 s, but for one that is still; pages stand beside `/`. */
export function htmlPage(title: string, body: string, { isStill = false } = {}): Answer {
  const headers = {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy':
      "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'",
  }
  const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Carillon: ${title}</title>${isStill ? '' : '<meta http-equiv="refresh" content="5">'}
<style>${STYLE}</style></head><body>
${isStill ? '' : '<p><a href="./">Carillon</a></p>\n'}${body}
</body></html>
`
  return { status: 200, headers, body: page }
}

/** Cells are texts. `classOf` a row: `bad`, `moving`, or ''. */
export function htmlTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  classOf: (row: readonly string[]) => string = () => '',
): string {
  const cells = (tag: string, row: readonly string[]) => row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')
  const body = rows.map((row) => `<tr class="${classOf(row)}">${cells('td', row)}</tr>\n`).join('')
  return `<table><tr>${cells('th', head)}</tr>\n${body}</table>`
}

export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
