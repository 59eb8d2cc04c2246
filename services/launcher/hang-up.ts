// SIGHUP: read again what may change while we run. In a terminal it says that the terminal is gone, and whoever was started there stops.
export function onHangUp({ reload, stop }: { readonly reload: () => void; readonly stop: () => void }): void {
  const hasTerminal = process.stderr.isTTY || process.stdout.isTTY
  process.on('SIGHUP', hasTerminal ? stop : reload)
}
