// Our fault, and may pass: the caller asks again. See ../error-codes.ts.
import type { CodeMeaning } from './meaning.ts'

export const unavailableCodes = {
  'aside-ending': {
    meaning: 'A set-aside segment is being taken away while another copy arrives.',
    remedy: 'Nobody has to act: it is tried again.',
  },
  'err-carillon-asked-meanwhile': {
    meaning: 'The same deletion was asked for under another id at the same time.',
    remedy: 'The asker looks at the list and asks again if its own is still needed.',
  },
  'err-carillon-auth-busy': {
    meaning: 'Too many passwords are being checked.',
    remedy: 'The asker waits and asks again.',
  },
  'err-carillon-block-replaced': {
    meaning: 'A block was replaced while it was read.',
    remedy: 'Nobody has to act: the querier reads what took its place.',
  },
  'err-carillon-block-unavailable': {
    meaning: 'A block cannot be read at the moment.',
    remedy: 'The operator looks whether the object store answers.',
  },
  'blocks-behind': {
    meaning: 'An actor has not yet seen the version of a manifest that was asked for.',
    remedy: 'Nobody has to act: it is asked again; if it lasts, look whether NATS answers.',
  },
  'blocks-swept': {
    meaning: 'Files were deleted before their block was listed.',
    remedy: 'Nobody has to act: the block is written again.',
  },
  'err-carillon-blocks-unknown': {
    meaning: 'The querier does not know yet which blocks there are.',
    remedy: 'The asker asks again; if it lasts, the operator looks at the log of the querier.',
  },
  'bus-disconnected': {
    meaning: 'The connection to NATS was lost.',
    remedy: 'The operator looks whether the NATS servers run; the process connects again by itself.',
  },
  'bus-lost-message': {
    meaning: 'A part of a long answer was lost on the way.',
    remedy: 'The asker asks again.',
  },
  'bus-no-responders': {
    meaning: 'Nobody listens to this kind of question.',
    remedy: 'The operator starts the actors that answer it.',
  },
  'bus-silent': {
    meaning: 'The actor that took the question gives no sign of life.',
    remedy: 'The asker asks again; if it lasts, the operator looks at that actor.',
  },
  'bus-timeout': {
    meaning: 'No answer came in time.',
    remedy: 'The asker asks again; if it lasts, the operator looks at load and network.',
  },
  'err-carillon-cancelled': {
    meaning: 'The asker left before the answer was ready.',
    remedy: 'Nobody has to act.',
  },
  'compactor-stopping': {
    meaning: 'The compactor stops.',
    remedy: 'Nobody has to act: another one goes on.',
  },
  'damage-open': {
    meaning: 'Damage of a partition waits for other owners to fill it.',
    remedy: 'The operator starts the other owners of the partition.',
  },
  'err-carillon-delete-pending': {
    meaning: 'A deletion is not in force yet, because a log does not answer.',
    remedy: 'The asker asks again; the operator looks at the partitions that the text names.',
  },
  'err-carillon-distributor-gone': {
    meaning: 'The distributor that took the write is gone; whether it was stored is not known.',
    remedy: 'The sender sends again.',
  },
  'err-carillon-distributor-silent': {
    meaning: 'The distributor that took the write gives no sign of life; whether it was stored is not known.',
    remedy: 'The sender sends again.',
  },
  'err-carillon-dropped': {
    meaning: 'No owner of a partition holds the samples asked for any longer: they went into blocks meanwhile.',
    remedy: 'Nobody has to act: the querier reads the blocks; an asker that sees it asks again.',
  },
  'err-carillon-election-unavailable': {
    meaning: 'The elected replica of an HA pair cannot be told at the moment.',
    remedy: 'The sender sends again; if it lasts, the operator looks whether NATS answers.',
  },
  'err-carillon-failed-logins': {
    meaning: 'Too many wrong passwords came from this address.',
    remedy: 'The asker waits; the operator corrects the password of whoever keeps trying.',
  },
  'flush-build-failed': {
    meaning: 'A block could not be built from a segment.',
    remedy: 'The operator reads the reason in the log; it is tried again.',
  },
  'flush-changed': {
    meaning: 'A segment changed while it was written to a block.',
    remedy: 'Nobody has to act: it is tried again.',
  },
  'given-away': {
    meaning: 'The partition was given to another ingester.',
    remedy: 'Nobody has to act: its new owner is asked.',
  },
  'err-carillon-id-taken': {
    meaning: 'Another process uses this id.',
    remedy: 'The operator ends that process or gives this one another --id.',
  },
  'err-carillon-ingester-memory': {
    meaning: 'An ingester is at its memory bound.',
    remedy: 'The operator adds ingesters or raises --memory-bytes-max; the sender sends again.',
  },
  'err-carillon-internal': {
    meaning: 'A handler failed in an unexpected way.',
    remedy: 'The operator reports it with the log of that process; the asker asks again.',
  },
  'kv-unavailable': {
    meaning: 'A bucket of NATS does not answer.',
    remedy: 'The operator looks whether JetStream has a quorum.',
  },
  'err-carillon-limits-unavailable': {
    meaning: 'The limits of a tenant keep changing while they are written.',
    remedy: 'The operator tries again.',
  },
  'err-carillon-log-full': {
    meaning: 'The log of a partition is full, or nearly full.',
    remedy: 'The operator finds out why its ingesters do not flush, or raises --log-bytes-max; senders send again.',
  },
  'log-full': {
    meaning: 'NATS refused an entry because a log is full.',
    remedy: 'The operator finds out why ingesters do not flush, or raises --log-bytes-max.',
  },
  'log-no-room': {
    meaning: 'NATS has no storage left for a log.',
    remedy: 'The operator gives JetStream more storage.',
  },
  'log-unavailable': {
    meaning: 'A log of NATS does not answer or is missing.',
    remedy: 'The operator looks whether JetStream has a quorum.',
  },
  'manifest-unsettled': {
    meaning: 'A manifest of the first format is being upgraded.',
    remedy: 'Nobody has to act: a compactor upgrades it; start one if none runs.',
  },
  'err-carillon-mark-unreadable': {
    meaning: 'The newest entry of a log on the subject of marks is not a mark.',
    remedy: 'The operator reports it: a program other than Carillon has written to the log.',
  },
  'merge-thread': {
    meaning: 'The thread that merges blocks ended.',
    remedy: 'Nobody has to act: the step is tried again; if it lasts, look for lack of memory.',
  },
  'err-carillon-no-compactor': {
    meaning: 'No compactor answers.',
    remedy: 'The operator starts a compactor.',
  },
  'err-carillon-no-distributor': {
    meaning: 'No distributor takes writes.',
    remedy: 'The operator starts a distributor, or reads in the log of one why it is not ready.',
  },
  'err-carillon-no-mark': {
    meaning: 'No ingester leads the partition, so that writes to it cannot be confirmed.',
    remedy: 'The operator looks at /api/v1/status/members and /api/v1/status/partitions.',
  },
  'err-carillon-no-partitions': {
    meaning: 'The distributor does not know the partitions yet.',
    remedy: 'The sender sends again; if it lasts, run `carillon setup`.',
  },
  'err-carillon-no-querier': {
    meaning: 'No querier answers.',
    remedy: 'The operator starts a querier.',
  },
  'err-carillon-no-ring': {
    meaning: 'No partition is known yet.',
    remedy: 'The operator runs `carillon setup`.',
  },
  'err-carillon-not-owner': {
    meaning: 'This ingester does not own the partition.',
    remedy: 'Nobody has to act: the asker asks the owner.',
  },
  'err-carillon-not-power-safe': {
    meaning: 'Writes are refused, because --require-power-safe is set and the log may lose them at a power cut.',
    remedy: 'The operator sets sync_interval: always in NATS, or gives up the setting.',
  },
  'err-carillon-not-ready': {
    meaning: 'The process is not ready; the text of /ready says what is missing.',
    remedy: 'The operator waits, or starts what is missing.',
  },
  'err-carillon-not-set-up': {
    meaning: 'The number of partitions is not known yet.',
    remedy: 'The operator runs `carillon setup`; the asker asks again.',
  },
  'objects-full': {
    meaning: 'The object store is full.',
    remedy: 'The operator makes room.',
  },
  'objects-timeout': {
    meaning: 'The object store did not answer in time.',
    remedy: 'The operator looks at the object store.',
  },
  'objects-unavailable': {
    meaning: 'The object store does not answer.',
    remedy: 'The operator looks at the object store.',
  },
  'err-carillon-overloaded': {
    meaning: 'Too much is in flight at this process.',
    remedy: 'The sender waits and sends again; if it lasts, the operator adds processes.',
  },
  'err-carillon-owner-behind': {
    meaning: 'An ingester has not yet read its log as far as the query needs.',
    remedy: 'The asker asks again; if it lasts, the operator looks at that ingester.',
  },
  'err-carillon-owner-silent': {
    meaning: 'An ingester said nothing for too long while it answered.',
    remedy: 'Nobody has to act: another owner is asked.',
  },
  'owner-stopped': {
    meaning: 'The ingester gave the partition away meanwhile.',
    remedy: 'Nobody has to act: its new owner is asked.',
  },
  'err-carillon-partition-unavailable': {
    meaning: 'No owner of a partition answers.',
    remedy: 'The operator starts the ingesters of the partition; the text names them.',
  },
  'err-carillon-partition-unknown': {
    meaning: 'A log position names a partition that the querier does not know.',
    remedy: 'The asker asks again; if it lasts, the position is from another system.',
  },
  'err-carillon-querier-silent': {
    meaning: 'The querier that took the query does not answer.',
    remedy: 'The asker asks again.',
  },
  'err-carillon-ring-unconfirmed': {
    meaning: 'The actor has not heard for some time how many partitions there are.',
    remedy: 'The asker asks again; if it lasts, the operator looks at the record `partitions` in `cln-ring`.',
  },
  'err-carillon-stopping': {
    meaning: 'The process stops.',
    remedy: 'The asker asks again: another one answers.',
  },
  'err-carillon-unavailable': {
    meaning: 'A part of the system does not answer; the text says which.',
    remedy: 'The asker asks again; the operator looks at the part.',
  },
  'err-carillon-unconfirmed': {
    meaning: 'The write is stored, but could not be confirmed in time.',
    remedy: 'The sender sends again; nothing is stored twice.',
  },
  'err-carillon-upload-busy': {
    meaning: 'The record of the upload keeps changing.',
    remedy: 'The sender asks again.',
  },
} as const satisfies Readonly<Record<string, CodeMeaning>>
