// What commands print: for people, or one JSON document (`--output json`).

export function printed({ output }: { readonly output: 'text' | 'json' }, json: unknown, forPeople: string): string {
  return output === 'json' ? `${JSON.stringify(json)}\n` : forPeople
}

/** Columns as wide as their widest cell. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)))
  return [head, ...rows].map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}

/** Times may be any number: people and files give them, and not all are dates. */
export function timeText(ms: number): string {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString()
}
