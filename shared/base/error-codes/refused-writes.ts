// What pushes and uploads are refused for. See ../error-codes.ts.
import type { RefusedMeaning } from './meaning.ts'

export const refusedWrites = {
  'err-carillon-duplicate-label-name': {
    statuses: [400],
    meaning: 'A series has the same label name twice.',
    remedy: 'The sender corrects its relabelling.',
  },
  'err-carillon-histogram-invalid': {
    statuses: [400],
    meaning: 'A native histogram contradicts itself, for example its count and its buckets.',
    remedy: 'The sender corrects the instrumentation; everything else in the push is stored.',
  },
  'err-carillon-histogram-too-large': {
    statuses: [400],
    meaning: 'A native histogram takes more bytes than allowed.',
    remedy: 'The sender uses a coarser resolution, or the operator raises --histogram-bytes-max.',
  },
  'err-carillon-ingester-memory-new-series': {
    statuses: [400],
    meaning: 'An ingester is near its memory bound; new series are refused, known ones are stored.',
    remedy: 'The operator adds ingesters or raises --memory-bytes-max.',
  },
  'err-carillon-label-invalid-utf8': {
    statuses: [400],
    meaning: 'A label is not valid UTF-8.',
    remedy: 'The sender writes labels as UTF-8.',
  },
  'err-carillon-label-invalid': {
    statuses: [400],
    meaning: 'A label has an empty name.',
    remedy: 'The sender corrects its relabelling.',
  },
  'err-carillon-label-name-too-long': {
    statuses: [400],
    meaning: 'The name of a label is longer than allowed.',
    remedy: 'The sender shortens it, or the operator raises --label-name-bytes-max.',
  },
  'err-carillon-label-value-too-long': {
    statuses: [400],
    meaning: 'The value of a label is longer than allowed.',
    remedy: 'The sender shortens it, or the operator raises --label-value-bytes-max.',
  },
  'err-carillon-labels-not-sorted': {
    statuses: [400],
    meaning: 'The labels of a series in an uploaded block are not in order.',
    remedy: 'Whoever made the block corrects it and uploads it again.',
  },
  'err-carillon-max-label-names-per-series': {
    statuses: [400],
    meaning: 'A series has more labels than are allowed.',
    remedy: 'The sender drops labels by relabelling, or the operator raises --label-names-per-series-max.',
  },
  'err-carillon-max-series-per-tenant': {
    statuses: [400],
    meaning: 'The tenant has as many series as it may have; new ones are refused.',
    remedy: 'The sender writes fewer series, or the operator raises --series-per-tenant-max.',
  },
  'err-carillon-missing-metric-name': {
    statuses: [400],
    meaning: 'A series has no metric name.',
    remedy: 'The sender gives each series the label __name__.',
  },
  'err-carillon-protobuf': {
    statuses: [400],
    meaning: 'The body is not the protobuf message that it claims to be.',
    remedy: 'The sender is mended: such a body is never accepted.',
  },
  'err-carillon-rate-limited': {
    statuses: [429],
    meaning: 'The tenant sends more samples per second than allowed.',
    remedy: 'The sender waits and sends again, or the operator raises --samples-per-second-max.',
  },
  'err-carillon-sample-too-old': {
    statuses: [400],
    meaning: 'A sample is older than --past allows or than the tenant keeps.',
    remedy: 'The sender lets it go, or the operator keeps samples longer.',
  },
  'err-carillon-series-without-samples': {
    statuses: [400],
    meaning: 'A series of remote write 2 has neither samples nor histograms.',
    remedy: 'The sender leaves such series out.',
  },
  'err-carillon-snappy': {
    statuses: [400],
    meaning: 'The body is not sound snappy, or it is larger than --decoded-bytes-max when decoded.',
    remedy: 'The sender sends smaller bodies, compressed as snappy blocks.',
  },
  'err-carillon-symbol-reference': {
    statuses: [400],
    meaning: 'A push of remote write 2 names a symbol that it does not carry.',
    remedy: 'The sender is mended: such a series is never accepted.',
  },
  'err-carillon-too-far-in-future': {
    statuses: [400],
    meaning: 'A sample is further ahead of the clock than --future allows.',
    remedy: 'The sender sets its clock right.',
  },
  'err-carillon-too-many-ha-clusters': {
    statuses: [400],
    meaning: 'The tenant has as many HA clusters as it may have.',
    remedy: 'The sender corrects the cluster label, or the operator raises --ha-clusters-max.',
  },
  'err-carillon-upload-busy': {
    statuses: [409],
    meaning: 'The upload is being validated, or a newer version of Carillon works on it.',
    remedy: 'The sender waits until the upload is finished and asks again.',
  },
  'err-carillon-upload-changed': {
    statuses: [409],
    meaning: 'Other bytes came for a file of this upload before.',
    remedy: 'The sender starts the upload again with a new meta.json.',
  },
  'err-carillon-upload-damaged': {
    statuses: [400],
    meaning: 'The uploaded block is damaged; the text says where.',
    remedy: 'The sender reads its block again from where it is sound.',
  },
  'err-carillon-upload-downsampled': {
    statuses: [400],
    meaning: 'The block holds downsampled windows instead of samples.',
    remedy: 'The sender uploads the blocks from which it was made.',
  },
  'err-carillon-upload-empty': {
    statuses: [400],
    meaning: 'The block holds no samples.',
    remedy: 'Nothing has to be done: there is nothing to store.',
  },
  'err-carillon-upload-exists': {
    statuses: [409],
    meaning: 'This block was uploaded before and is stored.',
    remedy: 'Nothing has to be done.',
  },
  'err-carillon-upload-external-label': {
    statuses: [400],
    meaning: 'An external label of the block is not valid or contradicts a label of a series.',
    remedy: 'The sender corrects thanos.labels in meta.json.',
  },
  'err-carillon-upload-file': {
    statuses: [400],
    meaning: 'The file is none of those that meta.json named at the start of the upload.',
    remedy: 'The sender lists every file in meta.json and starts again.',
  },
  'err-carillon-upload-files': {
    statuses: [400],
    meaning: 'The list of files in meta.json is missing, too long or not that of a block.',
    remedy: 'The sender lists index, chunks and tombstones with their sizes.',
  },
  'err-carillon-upload-finished': {
    statuses: [409],
    meaning: 'The upload was finished before.',
    remedy: 'The sender asks for its state instead of sending more.',
  },
  'err-carillon-upload-forgotten': {
    statuses: [400],
    meaning: 'Nothing came for this upload for too long; its files were removed.',
    remedy: 'The sender starts the upload again.',
  },
  'err-carillon-upload-grows': {
    statuses: [400],
    meaning: 'Cut into days or weeks, the block becomes much larger than what came.',
    remedy: 'The sender uploads blocks that span less time.',
  },
  'err-carillon-upload-incomplete': {
    statuses: [400],
    meaning: 'Not all files of the block came; the text names those that are missing.',
    remedy: 'The sender sends the missing files and finishes the upload again.',
  },
  'err-carillon-upload-length': {
    statuses: [400, 411],
    meaning: 'A file came without Content-Length or with another number of bytes.',
    remedy: 'The sender states the length and sends exactly as many bytes.',
  },
  'err-carillon-upload-meta': {
    statuses: [400],
    meaning: 'The meta.json of the block cannot be read.',
    remedy: 'The sender sends the meta.json of a Prometheus block of version 1.',
  },
  'err-carillon-upload-out-of-order': {
    statuses: [400],
    meaning: 'The block has chunks that overlap or series that are out of order.',
    remedy: 'The sender compacts the block first, so that nothing overlaps.',
  },
  'err-carillon-upload-size': {
    statuses: [400],
    meaning: 'A file has another size than meta.json says, or a piece begins where none may begin.',
    remedy: 'The sender sends pieces as the text says.',
  },
  'err-carillon-upload-slow': {
    statuses: [422],
    meaning: 'Validating the block took longer than --upload-validate.',
    remedy: 'The sender uploads smaller blocks.',
  },
  'err-carillon-upload-tenant-deleted': {
    statuses: [409],
    meaning: 'The tenant is being deleted.',
    remedy: 'The sender uploads when the deletion is done or has been taken back.',
  },
  'err-carillon-upload-times': {
    statuses: [400],
    meaning: 'The times of the block are not dates, are too far ahead or span too much.',
    remedy: 'The sender uploads blocks with sound times that span less.',
  },
  'err-carillon-upload-too-large': {
    statuses: [413],
    meaning: 'The block is larger than --upload-bytes-max.',
    remedy: 'The sender uploads smaller blocks, or the operator raises the limit.',
  },
  'err-carillon-upload-too-many': {
    statuses: [429],
    meaning: 'The tenant has too many unfinished uploads, or they hold too many bytes.',
    remedy: 'The sender finishes some, or the operator raises --uploads-open-max or --upload-staged-bytes-max.',
  },
  'err-carillon-upload-too-old': {
    statuses: [400],
    meaning: 'The whole block is older than what the tenant keeps.',
    remedy: 'The sender leaves it out, or the operator keeps samples longer.',
  },
  'err-carillon-upload-ulid': {
    statuses: [400],
    meaning: 'The id of the block is not a ULID, or meta.json names another one.',
    remedy: 'The sender uses the ULID of the block in the URL.',
  },
} as const satisfies Readonly<Record<string, RefusedMeaning>>
