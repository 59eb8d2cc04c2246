// What requests of any kind are refused for, deletions and settings included. See ../error-codes.ts.
import type { RefusedMeaning } from './meaning.ts'

export const refusedRequests = {
  'err-carillon-ask-again': {
    statuses: [409],
    meaning: 'Since the request was begun deletions left the history, so it may have been carried out before.',
    remedy: 'The asker looks at the list of deletions and asks again.',
  },
  'err-carillon-auth-file': {
    statuses: [400],
    atStart: true,
    meaning: 'The auth file cannot be read or is faulty.',
    remedy: 'The operator corrects the file named by --auth-file.',
  },
  'err-carillon-bad-limit': {
    statuses: [400],
    meaning: 'A limit is unknown or its value cannot be read.',
    remedy: 'The operator corrects the name or the value.',
  },
  'err-carillon-bad-mark': {
    statuses: [400],
    meaning: 'A mark in a log is not one.',
    remedy: 'The operator reports it: a program other than Carillon has written to the log.',
  },
  'err-carillon-bad-message': {
    statuses: [400],
    meaning: 'A message between actors cannot be read.',
    remedy: 'The operator brings all processes to one version, or reports it.',
  },
  'err-carillon-bad-record': {
    statuses: [400],
    meaning: 'A record in a bucket cannot be read.',
    remedy: 'The operator finds its key in the log and follows docs/operations/damage.md.',
  },
  'err-carillon-bad-request': {
    statuses: [400],
    meaning: 'The request is not as it should be; the text says where.',
    remedy: 'The asker corrects the request.',
  },
  'err-carillon-bad-subject': {
    statuses: [400],
    meaning: 'A subject of the bus cannot be built from its parameters.',
    remedy: 'The asker shortens or corrects the names in the request.',
  },
  'err-carillon-body-too-large': {
    statuses: [413],
    meaning: 'The body of the request is too large.',
    remedy: 'The asker sends less at once, or the operator raises --body-bytes-max.',
  },
  'err-carillon-bug': {
    statuses: [500, 400],
    meaning: 'An assertion failed while the request was handled; that process has ended and starts again.',
    remedy: 'The operator reports it with the log of that process.',
  },
  'err-carillon-cross-site': {
    statuses: [403],
    meaning: 'A page of another site sent a request that only a page of this site may send.',
    remedy: 'The operator names the site in the settings if it may.',
  },
  'err-carillon-expectation': {
    statuses: [417],
    meaning: 'The request expects something other than 100-continue.',
    remedy: 'The asker leaves the header Expect out.',
  },
  'err-carillon-federation': {
    statuses: [400],
    meaning: 'The request names several tenants where one is needed.',
    remedy: 'The asker names one tenant in X-Scope-OrgID.',
  },
  'err-carillon-forbidden': {
    statuses: [403],
    meaning: 'The credential lacks the right that this route needs.',
    remedy: 'The operator adds the right to the auth file.',
  },
  'err-carillon-ha-tenant-labels': {
    statuses: [400],
    atStart: true,
    meaning: 'The value of --ha-tenant-labels cannot be read.',
    remedy: 'The operator corrects the setting.',
  },
  'err-carillon-headers-too-large': {
    statuses: [431],
    meaning: 'The headers of the request are too large.',
    remedy: 'The asker sends fewer or shorter headers.',
  },
  'err-carillon-host': {
    statuses: [403],
    meaning: 'The Host header names no host of this gateway.',
    remedy: 'The operator adds the host to --allowed-hosts.',
  },
  'err-carillon-id-used': {
    statuses: [409],
    meaning: 'A deletion with this id was asked for with other selectors or times.',
    remedy: 'The asker uses another id.',
  },
  'err-carillon-listen': {
    statuses: [400],
    atStart: true,
    meaning: 'The gateway cannot listen on the address.',
    remedy: 'The operator chooses another --listen or ends the other program.',
  },
  'log-config': {
    statuses: [400],
    atStart: true,
    meaning: 'A log exists with other settings than those that are wanted.',
    remedy: 'The operator compares the settings of the stream with those of the processes.',
  },
  'err-carillon-malformed-http': {
    statuses: [400],
    meaning: 'What came is not a valid HTTP request.',
    remedy: 'The sender is mended.',
  },
  'err-carillon-manifest-too-large': {
    statuses: [400],
    meaning: 'The list of the blocks of a tenant would become larger than one message carries.',
    remedy: 'The operator lets the compactor merge blocks, or raises max_payload of NATS.',
  },
  'err-carillon-method': {
    statuses: [405],
    meaning: 'The route does not have this method.',
    remedy: 'The asker uses a method that the header Allow names.',
  },
  'newer-version': {
    statuses: [400],
    meaning: 'A newer version of Carillon wrote a record that this one cannot read.',
    remedy: 'The operator starts the newer version everywhere.',
  },
  'err-carillon-no-tenant': {
    statuses: [401, 400],
    meaning: 'The request names no tenant.',
    remedy: 'The asker sends X-Scope-OrgID.',
  },
  'err-carillon-not-found': {
    statuses: [404],
    meaning: 'There is nothing at this address, or nothing with this name.',
    remedy: 'The asker corrects the address or the name.',
  },
  'err-carillon-not-set-up': {
    statuses: [400],
    meaning: 'There are no partitions yet.',
    remedy: 'The operator runs `carillon setup` first.',
  },
  'err-carillon-open-door': {
    statuses: [400],
    atStart: true,
    meaning: 'The gateway would let in everybody who can reach this machine.',
    remedy: 'The operator sets --auth-file, or --allow-unauthenticated where a proxy keeps strangers out.',
  },
  'err-carillon-overtaken': {
    statuses: [409],
    meaning: 'Another deletion of the same samples stands in the place of this one.',
    remedy: 'The asker takes the other one back; the text names it.',
  },
  'err-carillon-partitions': {
    statuses: [400],
    meaning: 'More partitions are wanted than there can be.',
    remedy: 'The operator asks for fewer partitions.',
  },
  'err-carillon-policy-file': {
    statuses: [400],
    meaning: 'The policy file cannot be read or is faulty; what it said before still holds.',
    remedy: 'The operator corrects the file named by --policy-file.',
  },
  'err-carillon-request-timeout': {
    statuses: [408],
    meaning: 'The request took too long to arrive.',
    remedy: 'The sender sends again over a better line, or sends less at once.',
  },
  'err-carillon-second-store': {
    statuses: [400],
    atStart: true,
    meaning: 'The value of --second-store cannot be read.',
    remedy: 'The operator corrects the setting.',
  },
  'err-carillon-settings': {
    statuses: [400],
    atStart: true,
    meaning: 'Two settings contradict each other.',
    remedy: 'The operator corrects them as the text says.',
  },
  'err-carillon-tenant-id': {
    statuses: [400],
    meaning: 'The tenant id is not valid, or is given more than once.',
    remedy: 'The asker sends one valid id.',
  },
  'err-carillon-too-large': {
    statuses: [413],
    meaning: 'A request or an answer is larger than its kind may be.',
    remedy: 'The asker asks for less at once.',
  },
  'err-carillon-too-many-deletes': {
    statuses: [429],
    meaning: 'The tenant has as many deletions as can be listed.',
    remedy: 'The asker waits until some have left the list, or calls clean_tombstones.',
  },
  'err-carillon-too-many-parameters': {
    statuses: [400],
    meaning: 'The request has too many parameters.',
    remedy: 'The asker sends fewer.',
  },
  'err-carillon-unauthenticated': {
    statuses: [401],
    meaning: 'The request has no valid credential.',
    remedy: 'The asker sends a user and a password, or a token, that the auth file knows.',
  },
  'err-carillon-undo-over': {
    statuses: [409],
    meaning: 'The time in which the deletion could be taken back is over.',
    remedy: 'Nobody can act: the samples are being removed.',
  },
  'err-carillon-undone': {
    statuses: [409],
    meaning: 'The deletion was taken back.',
    remedy: 'The asker asks for a new one if the samples should still go.',
  },
  'err-carillon-unknown-replica': {
    statuses: [400],
    meaning: 'No distributor has heard of this replica.',
    remedy: 'The operator corrects its name, or elects it with force=true.',
  },
  'err-carillon-unsupported-media-type': {
    statuses: [415],
    meaning: 'The body is of a type that this route does not take.',
    remedy: 'The asker sends one of the types that the text names.',
  },
  'err-carillon-wrong-tenant': {
    statuses: [403],
    meaning: 'The credential is not for this tenant.',
    remedy: 'The operator adds the tenant to the credential, or the asker names another one.',
  },
} as const satisfies Readonly<Record<string, RefusedMeaning>>
