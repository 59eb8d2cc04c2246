// ULIDs, the names of blocks: 48 bits of time, then 80 bits of something else, as 26 digits of base 32.
export const ULID_SHAPE = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/
/** Crockford's: no I, L, O, U. */
export const ULID_DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
