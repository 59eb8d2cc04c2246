// Data does not match its checksum or its rules: it is set aside, counted and named. See ../error-codes.ts.
import type { CodeMeaning } from './meaning.ts'

export const corruptCodes = {
  'aside-too-late': {
    meaning: 'A set-aside segment cannot be put back, because deletions of its time are forgotten.',
    remedy: 'The operator reads the reason in the log of the ingester: its objects are kept for a closer look.',
  },
  'bad-answer': {
    meaning: 'Another owner answered something that cannot be used.',
    remedy: 'The operator brings all ingesters to one version.',
  },
  'bad-batch': {
    meaning: 'A batch of a log breaks its format.',
    remedy: 'The operator looks at the damage in /api/v1/status/partitions; other owners fill it.',
  },
  'bad-checksum': {
    meaning: 'A batch of a log does not match its checksum.',
    remedy: 'The operator looks at the disk of the NATS server; other owners fill the damage.',
  },
  'err-carillon-bad-chunk': {
    meaning: 'A chunk does not hold the samples that it should hold.',
    remedy: 'The operator runs `carillon scrub --status` and repairs from the second store.',
  },
  'bad-frame': {
    meaning: 'A frame of a flush has no chunks.',
    remedy: 'The operator reports it.',
  },
  'err-carillon-bad-frame': {
    meaning: 'An owner sent a frame that cannot be read.',
    remedy: 'The operator brings all processes to one version, or reports it.',
  },
  'bad-magic': {
    meaning: 'An entry of a log is not a batch.',
    remedy: 'The operator finds out which program wrote to the log.',
  },
  'block-damaged': {
    meaning: 'A block is damaged.',
    remedy: 'The operator runs `carillon scrub --status`: it tells what is damaged and what was repaired.',
  },
  'err-carillon-block-damaged': {
    meaning: 'A block is damaged and its samples are missing from the answer.',
    remedy: 'The operator runs `carillon scrub --status`: it tells what is damaged and what was repaired.',
  },
  'compaction-read-back': {
    meaning: 'A block that was just written reads back differently.',
    remedy: 'The operator looks at the object store and the memory of the machine; the step is tried again.',
  },
  'err-carillon-corrupt-block': {
    meaning: 'A file of a block breaks its format.',
    remedy: 'The operator runs `carillon scrub --status`; a sender of an upload sends it again.',
  },
  'err-carillon-corrupt': {
    meaning: 'Stored bytes break their format.',
    remedy: 'The operator runs `carillon scrub --status` and looks at the disk.',
  },
  'err-carillon-damaged-source': {
    meaning: 'A block that should be merged is damaged.',
    remedy: 'The operator runs `carillon scrub --status`: the block is left as it is until it is repaired.',
  },
  'flushed-damaged': {
    meaning: 'The record of what is flushed cannot be read.',
    remedy: 'Nobody has to act: it is made again from the copies.',
  },
  'err-carillon-limits-unreadable': {
    meaning: 'The limits of a tenant cannot be read.',
    remedy: 'The operator writes them again with `carillon limits`.',
  },
  'log-rewound': {
    meaning: 'The log came back from NATS shorter, or as another one.',
    remedy: 'The operator finds out what was restored or deleted; what was lost is in the log of the ingester.',
  },
  'manifest-chain': {
    meaning: 'A manifest does not follow from the one before it.',
    remedy: 'The operator finds out which backup was restored: see docs/operations/restore.md.',
  },
  'manifest-damaged': {
    meaning: 'A manifest cannot be read.',
    remedy: 'Nobody has to act at once: it is repaired from its copies; the log says what was done.',
  },
  'manifest-missing': {
    meaning: 'The manifest of a tenant is missing.',
    remedy: 'Nobody has to act at once: it is repaired from its copies; the log says what was done.',
  },
  'manifest-older': {
    meaning: 'A manifest is older than one that was written before.',
    remedy: 'The operator finds out which backup was restored: see docs/operations/restore.md.',
  },
  'newer-version': {
    meaning: 'A newer version of Carillon wrote something that this one cannot read.',
    remedy: 'The operator starts the newer version everywhere.',
  },
  'object-damaged': {
    meaning: 'An object does not match its checksum.',
    remedy: 'The operator runs `carillon scrub --status` and looks at the object store.',
  },
  'object-missing': {
    meaning: 'An object is listed and is not there.',
    remedy: 'The operator runs `carillon scrub --status` and looks at the object store.',
  },
  'err-carillon-partitions-unreadable': {
    meaning: 'The record that says how many partitions there are cannot be read.',
    remedy: 'The operator puts the record right: see docs/operations/damage.md.',
  },
  'record-damaged': {
    meaning: 'A record of the blocks of a tenant cannot be read.',
    remedy: 'Nobody has to act at once: it is made again from what is stored.',
  },
  'registry-damaged': {
    meaning: 'The registry of tenants has an entry that cannot be read.',
    remedy: 'Nobody has to act at once: it is made again from the manifests.',
  },
  'too-many-copies': {
    meaning: 'Too many differing copies of one segment were set aside.',
    remedy: 'The operator reads the reason in the log of the ingester: its objects are kept for a closer look.',
  },
  unreadable: {
    meaning: 'A record in a bucket cannot be read.',
    remedy: 'The operator finds its key in the log and follows docs/operations/damage.md.',
  },
} as const satisfies Readonly<Record<string, CodeMeaning>>
