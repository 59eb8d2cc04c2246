// `/`: links to what there is, for whoever opens the address in a browser.
import type { Route } from '../http/exchange.ts'
import { escaped, htmlPage } from './html.ts'

/** Relative, so that they hold behind a proxy with a path of its own as well. */
const PLACES: readonly (readonly [title: string, links: readonly (readonly [href: string, text: string])[]])[] = [
  [
    'Pages',
    [
      ['ring', 'members, and the owners of each partition'],
      ['ha', 'which of several Prometheus replicas is stored'],
      ['queries', 'what is being asked now'],
    ],
  ],
  [
    'State',
    [
      ['-/ready', 'whether writes and reads work, and what is missing'],
      ['metrics', 'metrics of all actors'],
      ['api/v1/status/durability', 'what an acknowledged sample survives'],
      ['api/v1/status/partitions', 'how far each partition is'],
      ['api/v1/status/compaction', 'how far the merging of blocks is'],
      ['api/v1/status/scrub', 'what was found when everything was read again'],
      ['api/v1/status/flags', 'the settings of this gateway'],
      ['api/v1/blocks', 'the blocks of a tenant'],
    ],
  ],
  [
    'Data',
    [
      ['api/v1/query?query=up', 'a query; the address of this page is a Prometheus data source'],
      ['api/v1/label/__name__/values', 'the names of metrics'],
      ['api/v1/status/tsdb', 'how many series there are, and of what'],
    ],
  ],
]

export function indexRoutes(): readonly Route[] {
  const answer = () => htmlPage('what there is', BODY, { isStill: true })
  return [{ name: 'index', methods: ['GET'], path: '/', access: 'open', errors: 'text', answer }]
}

const BODY = `<h1>Carillon</h1>
<p>Prometheus servers push to <code>api/v1/push</code> here, by remote write 1.0 or 2.0.</p>
${PLACES.map(([title, links]) => `<h2>${title}</h2>\n<ul>${links.map(linkTo).join('\n')}</ul>`).join('\n')}`

function linkTo([href, text]: readonly [string, string]): string {
  return `<li><a href="${escaped(href)}">${escaped(href)}</a> ${escaped(text)}</li>`
}
