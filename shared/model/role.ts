// Who speaks on the bus.

export type Role = 'gateway' | 'distributor' | 'ingester' | 'querier' | 'compactor'

/** Who answers: the actors of one role, or every member of the ring. */
export type Server = Role | 'member'

/** Who asks: actors of a role; members of any; commands of an operator; whoever else is let to the NATS servers. */
export type Caller = Server | 'command' | 'outside'
