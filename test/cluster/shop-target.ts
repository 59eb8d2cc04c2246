// A small target to scrape: the metrics of a made-up shop, the same at every run for the same scrape.
import { createServer } from 'node:http'

const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
const HANDLERS = ['/cart', '/pay', '/search']
const SIXTEEN = Array.from({ length: 16 }, (_, at) => at)

export interface ShopTarget {
  readonly address: string
  /** Goes away: further scrapes are refused. */
  stop(): Promise<void>
}

export async function startShop(): Promise<ShopTarget> {
  let scrapes = 0
  const server = createServer((_, response) => {
    response.writeHead(200, { 'Content-Type': 'application/openmetrics-text; version=1.0.0; charset=utf-8' })
    response.end(page(++scrapes))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    address: `127.0.0.1:${port}`,
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function page(at: number): string {
  return [...requests(at), ...durations(at), ...temperatures(at), ...facts(), '# EOF', ''].join('\n')
}

function requests(at: number): string[] {
  const lines = ['# HELP shop_requests Requests answered.', '# TYPE shop_requests counter']
  HANDLERS.forEach((handler, i) => {
    const total = at * (i + 2) + (at % 5) // the last part goes back: a reset now and then
    lines.push(`shop_requests_total{handler="${handler}",code="200"} ${total} # {trace_id="${i}-${at}"} ${at * 0.01}`)
    lines.push(`shop_requests_total{handler="${handler}",code="500"} ${Math.floor(at / (i + 3))}`)
  })
  return lines
}

function durations(at: number): string[] {
  const lines = ['# HELP shop_duration_seconds Time to answer.', '# TYPE shop_duration_seconds histogram']
  HANDLERS.forEach((handler, i) => {
    let total = 0
    BOUNDS.forEach((bound, b) => {
      total += Math.floor((at * ((b * 7 + i * 3) % 11)) / 2)
      lines.push(`shop_duration_seconds_bucket{handler="${handler}",le="${bound}"} ${total}`)
    })
    lines.push(`shop_duration_seconds_bucket{handler="${handler}",le="+Inf"} ${total + at}`)
    lines.push(`shop_duration_seconds_sum{handler="${handler}"} ${at * 0.37 * (i + 1)}`)
    lines.push(`shop_duration_seconds_count{handler="${handler}"} ${total + at}`)
  })
  return lines
}

function temperatures(at: number): string[] {
  const lines = ['# HELP shop_temperature_celsius How warm it is.', '# TYPE shop_temperature_celsius gauge']
  for (const room of SIXTEEN) {
    const value = room === 3 ? 'NaN' : room === 4 ? '+Inf' : String(Math.sin(at * 0.7 + room) * 17.3 + room / 3)
    lines.push(`shop_temperature_celsius{room="${room}",floor="${room % 3}"} ${value}`)
  }
  return lines
}

function facts(): string[] {
  return [
    '# HELP shop_build_info What runs.',
    '# TYPE shop_build_info gauge',
    'shop_build_info{version="1.4.2",note="with \\"quotes\\", a \\\\ and é, 漢字"} 1',
  ]
}
